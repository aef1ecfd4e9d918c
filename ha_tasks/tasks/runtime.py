"""The System of this process: made once, after the fork, by whoever needs it first."""

from __future__ import annotations

import os
import threading

from celery import Celery

from ha_tasks.bootstrap import System, assemble
from ha_tasks.inventory import Inventory
from ha_tasks.tasks.dispatch import CeleryDispatch


class Runtime:
    """Holds the System; a forked child gets one of its own."""

    def __init__(self, app: Celery, inventory: Inventory) -> None:
        self._app = app
        self._inventory = inventory
        self._lock = threading.Lock()
        self._system: System | None = None
        self._pid = 0

    def system(self) -> System:
        """The System of this process."""
        with self._lock:
            if self._system is None or self._pid != os.getpid():
                self._system = assemble(self._inventory, dispatch=CeleryDispatch(self._app))
                self._pid = os.getpid()
            return self._system
