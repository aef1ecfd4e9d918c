"""The observer as a part of a Celery worker: starts after the pool, ends before it."""

from __future__ import annotations

import logging
import os
import signal
import threading
from contextlib import suppress
from typing import Any, ClassVar

from celery import bootsteps
from celery.exceptions import ImproperlyConfigured

from ha_tasks.bootstrap import System
from ha_tasks.errors import StoreUnreachable
from ha_tasks.tasks.runtime import LOOK_EVERY_S, Runtime

log = logging.getLogger(__name__)


class ObserverStep(bootsteps.StartStopStep):
    """Only with ``--observe``. Refuses a forking pool.

    A fork copies locks that other threads hold, SQLite's among them: a child that a forking pool starts
    while the observer writes could hang for ever.
    """

    requires = ("celery.worker.components:Pool",)
    runtime: ClassVar[Runtime]

    def __init__(self, parent: Any, observe: bool = False, **options: Any) -> None:
        super().__init__(parent, **options)
        self.enabled = observe
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        pool = getattr(parent.pool_cls, "__module__", "")
        if observe and "prefork" in pool:
            raise ImproperlyConfigured("--observe needs a pool without forks: add -P threads (or -P solo)")

    def start(self, parent: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Begins to observe."""
        self._thread = threading.Thread(target=self._observe, name="observer", daemon=True)
        self._thread.start()

    def stop(self, parent: Any) -> None:  # noqa: ARG002 - as above
        """Ends within one round."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _observe_with(self, system: System) -> None:
        """Until this process ends, or has loaded another revision of the inventory."""
        over = threading.Event()

        def watch() -> None:
            while not self._ended.wait(LOOK_EVERY_S) and self.runtime.system() is system:
                pass
            over.set()

        watching = threading.Thread(target=watch, name="revision-watch", daemon=True)
        watching.start()
        system.observer.run(over)
        watching.join()
        with suppress(StoreUnreachable):
            system.witness.look(at_once=True)

    def _observe(self) -> None:
        try:
            while not self._ended.is_set():
                self._observe_with(self.runtime.system())
        finally:
            if not self._ended.is_set():
                # A worker that no longer observes, but looks alive, is worse than one that ends and
                # is started again.
                log.critical("the observer ended by an error: this worker ends too")
                os.kill(os.getpid(), signal.SIGTERM)
