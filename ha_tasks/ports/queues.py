"""The broker's queues, looked at without any worker's help: how much waits, and for how long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What stands in one queue.

    ``waiting``: messages of all priorities that no worker has taken; ``unacked``: taken by a worker and
    not acknowledged. ``oldest_sent_at`` is the stamp of the message that is next in line, the oldest
    over all priorities (aware UTC); None when nothing waits, or when none of them bears a stamp.
    """

    waiting: int
    unacked: int
    oldest_sent_at: datetime | None = None


class Queues(Protocol):
    """Looks at queues. Raises BrokerUnreachable (retryable) within a second; changes nothing."""

    def backlogs(self, queues: Sequence[str]) -> Mapping[str, Backlog]:
        """What stands in each of these queues; one that does not exist is empty."""
        ...
