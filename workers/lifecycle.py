"""What happens when a process of the application starts, forks and reports itself."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from celery.signals import heartbeat_sent, task_success, worker_process_init, worker_ready

from ha_tasks.bootstrap import actor_of
from ha_tasks.errors import HaTasksError, InventoryError, StoreUnreachable
from ha_tasks.names import STORE_WATCH
from ha_tasks.ports.ledger import Worker
from ha_tasks.store import Store
from ha_tasks.tasks.runtime import Runtime
from ha_tasks.workflows.store_watch import StoreWatch

log = logging.getLogger(__name__)

HEARTBEAT_EVERY_S = 2.0


class Heartbeat:
    """Reports this process to the store, at most every two seconds.

    Without a ``store`` of its own it opens one for each report and closes it again: a prefork parent must
    not carry an open database across a fork.
    """

    def __init__(self, kind: str, runtime: Runtime, store: Store | None = None) -> None:
        self._kind = kind
        self._runtime = runtime
        self._store = store
        self._last = 0.0
        self.queues: tuple[str, ...] = ()

    def beat(self, *_: Any, **__: Any) -> None:
        """A store that cannot be reached, or whose password cannot be read, is told again with the next."""
        if time.monotonic() - self._last < HEARTBEAT_EVERY_S:
            return
        self._last = time.monotonic()
        try:
            self._report()
        except StoreUnreachable:
            return
        except InventoryError as error:
            log.warning("this process cannot report itself: %s", error)

    def _report(self) -> None:
        from ha_tasks.adapters.clock import SystemClock

        store = self._store or Store(self._runtime.store_url())
        try:
            store.ledger.heartbeat(
                Worker(
                    name=actor_of(),
                    kind=self._kind,
                    queues=self.queues,
                    pid=os.getpid(),
                    heartbeat_at=SystemClock().now(),
                    revision=self._runtime.revision(store.revisions),
                )
            )
        finally:
            if self._store is None:
                store.dispose()


def attach(runtime: Runtime, entries: Mapping[str, str]) -> None:
    """Connects the signals; the handlers live as long as the process.

    ``entries``: name of a task -> the entry of the schedule that sends it.
    """
    worker = Heartbeat("worker", runtime)

    def succeeded(sender: Any = None, **_: Any) -> None:
        entry = entries.get(sender.name)
        if entry is not None:
            system = runtime.system()
            system.store.schedule.succeeded(entry, system.clock.now())

    def forked(**_: Any) -> None:
        watch = runtime.system().store_watch
        # Now, and beside it: the first step of a failover must not wait for agents of dead hosts.
        threading.Thread(target=_first_look, args=(watch,), name=STORE_WATCH, daemon=True).start()

    def ready(sender: Any = None, **_: Any) -> None:
        worker.queues = tuple(q.name for q in sender.task_consumer.queues)
        worker.beat()

    task_success.connect(succeeded, weak=False, dispatch_uid="ha_tasks.succeeded")
    worker_process_init.connect(forked, weak=False, dispatch_uid="ha_tasks.forked")
    worker_ready.connect(ready, weak=False, dispatch_uid="ha_tasks.ready")
    heartbeat_sent.connect(worker.beat, weak=False, dispatch_uid="ha_tasks.heartbeat")


def _first_look(watch: StoreWatch) -> None:
    """A store that cannot be reached now is looked at by the first step."""
    with suppress(HaTasksError):
        watch.look()


__all__ = ["Heartbeat", "attach"]
