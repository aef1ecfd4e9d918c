"""The scheduler of ``celery -A workers.app beat``: run two or more of them, one acts.

It keeps nothing in a file: who leads and which tick was claimed stand in the store. What it decides is in
ha_tasks/workflows/beat.py; here are Celery's side and the messages.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from celery.beat import Scheduler
from celery.schedules import crontab

from ha_tasks.model.leadership import BEAT
from ha_tasks.model.message import Message
from ha_tasks.model.schedule import Calendar, Entry, Move
from ha_tasks.names import Handling
from ha_tasks.store import Store
from ha_tasks.tasks.cadence import cadence_of
from ha_tasks.tasks.dispatch import CeleryDispatch
from ha_tasks.tasks.runtime import Runtime
from ha_tasks.workflows.beat import Beat
from ha_tasks.workflows.leading import Leading
from workers.lifecycle import Heartbeat

log = logging.getLogger(__name__)

STORE_LIMIT_S = 1.0
"""A store that lets a leader wait longer would cost it its lease."""

Row = tuple[str, str, float | crontab | Calendar, str, float, Handling]
"""name, task, when, queue, expires_s, missed"""


def entries_of(table: Iterable[Row]) -> tuple[Entry, ...]:
    """The rows of the bare table as the model has them."""
    return tuple(
        Entry(
            name=str(name),
            task=str(task),
            cadence=cadence_of(when),
            queue=str(queue),
            expires_s=expires_s,
            missed=missed,
        )
        for name, task, when, queue, expires_s, missed in table
    )


class LeadingScheduler(Scheduler):
    """What ``celery beat`` runs; ``runtime`` and ``entries`` are set by the application."""

    runtime: ClassVar[Runtime]
    entries: ClassVar[tuple[Entry, ...]]

    def setup_schedule(self) -> None:
        """Called once, in the process that beats. Connects to nothing yet."""
        system = self.runtime.system()
        store = Store(system.inventory.store_url(), limit_s=STORE_LIMIT_S)
        self._heartbeat = Heartbeat("beat", self.runtime, store)
        self._in_round = False
        self._beat = Beat(
            entries=self.entries,
            leading=Leading(leadership=store.leadership, clock=system.clock, name=BEAT, holder=system.actor),
            ticks=store.ticks,
            schedule=store.schedule,
            ledger=store.ledger,
            clock=system.clock,
            send=_sending(CeleryDispatch(self.app)),
        )

    def tick(self, *_: Any, **__: Any) -> float:
        """One round; answers the seconds until the next."""
        self._in_round = True
        try:
            self._heartbeat.beat()
            return self._beat.round()
        finally:
            self._in_round = False

    def close(self) -> None:
        """Gives the lease back.

        Celery calls it from its signal handler first, which may have interrupted a round in the midst of a
        transaction, and once more when that round has been left.
        """
        if not self._in_round:
            self._beat.close()
        super().close()


def _sending(dispatch: CeleryDispatch) -> Callable[[Move, int], None]:
    def send(move: Move, fence: int) -> None:
        """BrokerUnreachable within a second. The message says which tick it is, and who claimed it."""
        entry, due = move.entry, move.due_at.isoformat()
        dispatch.send(
            Message(task=entry.task, queue=entry.queue, kwargs={}),
            expires=entry.expires_s,
            headers={"celery_beat_task": True, "entry": entry.name, "due_at": due, "fence": fence},
        )

    return send


__all__ = ["LeadingScheduler", "entries_of"]
