"""Events on their way out: how far each destination has been told, and the destinations themselves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ha_tasks.model.event import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """``seq``: the newest event that the destination has, or that is not for it.

    ``attempts``: failed ones of the event behind it; ``due_at``: nothing is tried before.
    """

    name: str
    seq: int
    attempts: int
    due_at: datetime
    error: str
    changed_at: datetime


class EventCursors(Protocol):
    """One row for each destination. Each verb is one transaction; StoreUnreachable is retryable."""

    def begin(self, name: str, seq: int, now: datetime) -> Cursor:
        """The destination's cursor; a new one begins behind ``seq``. Idempotent."""
        ...

    def claim(self, name: str, now: datetime, hold_s: float) -> Cursor | None:
        """The cursor, held for that long by moving ``due_at``; None: not due, or held by another.

        Whoever is late beyond that may tell an event twice: each bears its number.
        """
        ...

    def move(
        self, held: Cursor, *, seq: int, attempts: int, due_at: datetime, error: str, now: datetime
    ) -> bool:
        """Moves the cursor that ``claim`` answered; False when another has claimed it since."""
        ...

    def all(self) -> tuple[Cursor, ...]:
        """Every cursor, by name."""
        ...


class EventSink(Protocol):
    """One destination."""

    def deliver(self, event: Event) -> None:
        """Hands it over within a deadline of its own. NotDelivered: it may have arrived nevertheless."""
        ...
