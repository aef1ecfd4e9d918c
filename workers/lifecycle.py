"""What happens when a process of the application starts, forks, beats and ends."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from celery.signals import (
    after_task_publish,
    beat_init,
    heartbeat_sent,
    task_success,
    worker_process_init,
    worker_ready,
)

from ha_tasks.bootstrap import actor_of, load_inventory
from ha_tasks.errors import StoreUnreachable
from ha_tasks.ports.ledger import Worker
from ha_tasks.store import Store
from ha_tasks.tasks.runtime import Runtime

HEARTBEAT_EVERY_S = 2.0


class Heartbeat:
    """Reports this process to the store, at most every two seconds.

    It opens the store for each report and closes it again: a prefork parent must not carry an open
    database across a fork.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._last = 0.0
        self.queues: tuple[str, ...] = ()

    def beat(self, *_: Any, **__: Any) -> None:
        """A store that cannot be reached is told again with the next beat."""
        if time.monotonic() - self._last < HEARTBEAT_EVERY_S:
            return
        self._last = time.monotonic()
        try:
            self._report()
        except StoreUnreachable:
            return

    def _report(self) -> None:
        from ha_tasks.adapters.clock import SystemClock

        store = Store(load_inventory().store_url())
        try:
            store.ledger.heartbeat(
                Worker(
                    name=actor_of(),
                    kind=self._kind,
                    queues=self.queues,
                    pid=os.getpid(),
                    heartbeat_at=SystemClock().now(),
                )
            )
        finally:
            store.dispose()


def attach(runtime: Runtime, entries: Mapping[str, str]) -> None:
    """Connects the signals; the handlers live as long as the process.

    ``entries``: name of a task -> the entry of the schedule that sends it.
    """
    worker, beat = Heartbeat("worker"), Heartbeat("beat")

    def succeeded(sender: Any = None, **_: Any) -> None:
        entry = entries.get(sender.name)
        if entry is not None:
            system = runtime.system()
            system.store.schedule.succeeded(entry, system.clock.now())

    def forked(**_: Any) -> None:
        runtime.system()

    def ready(sender: Any = None, **_: Any) -> None:
        worker.queues = tuple(q.name for q in sender.task_consumer.queues)
        worker.beat()

    def beating(**_: Any) -> None:
        after_task_publish.connect(beat.beat, weak=False, dispatch_uid="ha_tasks.beat")

    task_success.connect(succeeded, weak=False, dispatch_uid="ha_tasks.succeeded")
    worker_process_init.connect(forked, weak=False, dispatch_uid="ha_tasks.forked")
    worker_ready.connect(ready, weak=False, dispatch_uid="ha_tasks.ready")
    heartbeat_sent.connect(worker.beat, weak=False, dispatch_uid="ha_tasks.heartbeat")
    beat_init.connect(beating, weak=False, dispatch_uid="ha_tasks.beating")


__all__ = ["Heartbeat", "attach"]
