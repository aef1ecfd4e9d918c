"""EventPublisher: what the audit chain records goes out, to each destination in order, at least once.

How far a destination has been told stands in SQL, so a publisher that dies is followed by the next one.
A destination that does not answer holds up only itself.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

from ha_tasks.errors import NotDelivered
from ha_tasks.model.audit import AuditEntry
from ha_tasks.model.event import Event, event_of, pause_s, too_old, wanted
from ha_tasks.model.plain import Json
from ha_tasks.names import Counter
from ha_tasks.ports.audit import Audit
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.events import Cursor, EventCursors, EventSink
from ha_tasks.ports.ledger import Ledger

logger = logging.getLogger(__name__)

BATCH = 200
BUDGET_S = 4.0
"""So long one destination is told in one go; the rest waits for the next tick."""
HOLD_S = 15.0
"""Longer than budget and one delivery together: then the next publisher may take the cursor."""
SIDE_BY_SIDE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """``events``: patterns of verbs that it asked for."""

    name: str
    events: tuple[str, ...]
    sink: EventSink


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """Where the cursor goes after a go. ``sent``: how many were taken."""

    seq: int
    sent: int
    attempts: int = 0
    pause_s: float = 0.0
    error: str = ""
    given_up: bool = False


class EventPublisher:
    """Any number of publishers may run: one at a time holds a destination."""

    def __init__(
        self,
        *,
        destinations: Sequence[Destination],
        audit: Audit,
        cursors: EventCursors,
        ledger: Ledger,
        clock: Clock,
    ) -> None:
        self._destinations = tuple(destinations)
        self._audit = audit
        self._cursors = cursors
        self._ledger = ledger
        self._clock = clock

    def publish(self) -> Json:
        """Tells every destination what it has not been told, side by side.

        Answers how many events each took. A destination that is told for the first time begins with
        what happens from now on. StoreUnreachable: the next tick goes on.
        """
        if not self._destinations:
            return {}
        cursors = {cursor.name: cursor for cursor in self._cursors.all()}
        with ThreadPoolExecutor(max_workers=min(SIDE_BY_SIDE, len(self._destinations))) as pool:
            told = pool.map(lambda d: self._tell(d, cursors), self._destinations)
            return {d.name: sent for d, sent in zip(self._destinations, told, strict=True)}

    def _tell(self, destination: Destination, cursors: Mapping[str, Cursor]) -> int:
        now = self._clock.now()
        cursor = cursors.get(destination.name)
        if cursor is None:
            cursor = self._cursors.begin(destination.name, self._audit.head().seq, now)
        # Nothing new is the usual case, and must not write.
        if cursor.due_at > now or not self._audit.after(cursor.seq, 1):
            return 0
        held = self._cursors.claim(destination.name, now, HOLD_S)
        if held is None:
            return 0
        told = self._hand_over(destination, held, self._audit.after(held.seq, BATCH))
        self._settle(destination, held, told)
        return told.sent

    def _hand_over(self, destination: Destination, held: Cursor, entries: Sequence[AuditEntry]) -> _Told:
        """In order, up to the first that is not taken."""
        began, seq, sent = self._clock.monotonic(), held.seq, 0
        for entry in entries:
            if self._clock.monotonic() - began > BUDGET_S:
                break
            if wanted(entry.verb, destination.events):
                event = event_of(entry)
                try:
                    destination.sink.deliver(event)
                except NotDelivered as error:
                    return self._failed(held, event, _Told(seq=seq, sent=sent), str(error))
                sent += 1
            seq = entry.seq
        return _Told(seq=seq, sent=sent)

    def _failed(self, held: Cursor, event: Event, told: _Told, error: str) -> _Told:
        if too_old(event, self._clock.now()):
            return _Told(
                seq=event.seq, sent=told.sent, error=f"gave up on {event.seq}: {error}", given_up=True
            )
        attempts = 1 if told.sent else held.attempts + 1
        return _Told(seq=told.seq, sent=told.sent, attempts=attempts, pause_s=pause_s(attempts), error=error)

    def _settle(self, destination: Destination, held: Cursor, told: _Told) -> None:
        now = self._clock.now()
        moved = self._cursors.move(
            held,
            seq=told.seq,
            attempts=told.attempts,
            due_at=now + timedelta(seconds=told.pause_s),
            error=told.error,
            now=now,
        )
        if not moved:
            logger.warning("events for %s took too long: another publisher goes on", destination.name)
        labels = {"destination": destination.name}
        if told.sent:
            self._ledger.count(Counter.EVENTS_DELIVERED, labels, told.sent)
        if told.error:
            self._ledger.count(Counter.EVENT_FAILURES, labels)
            logger.warning("events for %s wait: %s", destination.name, told.error)
        if told.given_up:
            self._ledger.count(Counter.EVENTS_GIVEN_UP, labels)
