"""The broker's queues, looked at without any worker's help: how much waits, and for how long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What stands in one queue.

    ``waiting``: messages of all priorities that no worker has taken; ``unacked``: taken by a worker and
    not acknowledged, None when the broker does not say. ``oldest_sent_at`` is the stamp of the message
    that is next in line, the oldest over all priorities (aware UTC); None when nothing waits, when none
    of them bears a stamp, or when the broker does not show it.
    """

    waiting: int
    unacked: int | None
    oldest_sent_at: datetime | None = None


class Queues(Protocol):
    """Looks at queues. Raises BrokerUnreachable (retryable) within a second; changes nothing."""

    def backlogs(self, queues: Sequence[str]) -> Mapping[str, Backlog]:
        """What stands in each of these queues; one that does not exist is empty."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message that was put aside.

    ``reason``: a PoisonReason, or what RabbitMQ names (``rejected``, ``maxlen``). ``size``: bytes of its
    body, of which ``body`` is the beginning, in no repr: nobody knows what a stranger has sent.
    """

    reason: str
    at: str
    queue: str
    task: str
    id: str
    size: int
    detail: str = ""
    body: str = field(default="", repr=False)


class DeadLetters(Protocol):
    """Looks at what was put aside, and takes nothing out. Raises BrokerUnreachable (retryable)."""

    def newest(self, limit: int) -> tuple[int, Sequence[DeadLetter]]:
        """(how many there are, the newest of them with the newest first)."""
        ...
