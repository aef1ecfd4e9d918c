"""Who of several processes acts, and the ticks that it claims: each verb is one transaction.

Raises StoreUnreachable (retryable). The fence is the store's: it grows with every change of hands, and a
lower one can claim nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from ha_tasks.model.leadership import Lease
from ha_tasks.model.schedule import Move, Tick


class Leadership(Protocol):
    """Leases of things that only one process may do at a time, by their name."""

    def look(self, name: str) -> Lease | None:
        """The row as it is; None: nobody ever led."""
        ...

    def take(self, name: str, seen: Lease | None, holder: str, until: datetime) -> Lease | None:
        """Compare-and-set: takes it under the next fence, if the row still is as it was ``seen``."""
        ...

    def renew(self, name: str, fence: int, until: datetime) -> bool:
        """False when the fence is no longer the row's, or the lease was given back."""
        ...

    def release(self, name: str, fence: int, now: datetime) -> None:
        """Gives it back, so that nobody has to wait for its end. Idempotent; fenced."""
        ...


class TickBook(Protocol):
    """The newest claimed tick of each entry of the schedule."""

    def ticks(self) -> Mapping[str, Tick]:
        """By name of the entry."""
        ...

    def claim(
        self, leadership: str, fence: int, moves: Sequence[Move], now: datetime, until: datetime
    ) -> tuple[Move, ...]:
        """Claims ticks, counts what was missed and renews the lease, in one transaction.

        Answers the moves whose ``before`` was still the newest tick: nobody else has theirs. Raises
        StaleFence when another leads by now, and then nothing is written.
        """
        ...

    def settle(self, fence: int, sent: Sequence[Move], owed: Sequence[Move], now: datetime) -> None:
        """What the broker took, and what it did not take of what must not be lost. Idempotent; fenced.

        What was sent ``again`` is counted as missed and made up.
        """
        ...
