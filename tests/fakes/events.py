"""Cursors in a dictionary, and a destination that does as a test says."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from threading import RLock

from ha_tasks.errors import NotDelivered
from ha_tasks.model.event import Event
from ha_tasks.ports.events import Cursor


class FakeEventCursors:
    def __init__(self) -> None:
        self.lock = RLock()
        self.cursors: dict[str, Cursor] = {}

    def begin(self, name: str, seq: int, now: datetime) -> Cursor:
        with self.lock:
            fresh = Cursor(name=name, seq=seq, attempts=0, due_at=now, error="", changed_at=now)
            return self.cursors.setdefault(name, fresh)

    def claim(self, name: str, now: datetime, hold_s: float) -> Cursor | None:
        with self.lock:
            cursor = self.cursors.get(name)
            if cursor is None or cursor.due_at > now:
                return None
            self.cursors[name] = replace(cursor, due_at=now + timedelta(seconds=hold_s))
            return self.cursors[name]

    def move(
        self, held: Cursor, *, seq: int, attempts: int, due_at: datetime, error: str, now: datetime
    ) -> bool:
        with self.lock:
            stands = self.cursors[held.name]
            if (stands.seq, stands.due_at) != (held.seq, held.due_at):
                return False
            self.cursors[held.name] = replace(
                stands, seq=seq, attempts=attempts, due_at=due_at, error=error, changed_at=now
            )
            return True

    def all(self) -> tuple[Cursor, ...]:
        with self.lock:
            return tuple(cursor for _, cursor in sorted(self.cursors.items()))


class FakeEventSink:
    """``failing``: it takes nothing; ``refuses``: events that it does not take."""

    def __init__(self) -> None:
        self.taken: list[Event] = []
        self.failing = False
        self.refuses: set[int] = set()

    def deliver(self, event: Event) -> None:
        if self.failing or event.seq in self.refuses:
            raise NotDelivered("HTTP 503")
        self.taken.append(event)
