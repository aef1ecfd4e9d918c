"""The System of this process: made after the fork by whoever needs it first, and anew once the file on
this machine is the applied revision of the inventory.
"""

from __future__ import annotations

import logging
import os
import threading
import time

from celery import Celery

from ha_tasks.bootstrap import System, assemble
from ha_tasks.errors import InventoryError, StoreUnreachable
from ha_tasks.inventory import Inventory, load
from ha_tasks.ports.revisions import Revisions
from ha_tasks.tasks.dispatch import CeleryDispatch

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0


class Runtime:
    """Holds the System; a forked child gets one of its own."""

    def __init__(self, app: Celery, inventory: Inventory) -> None:
        self._app = app
        self._inventory = inventory
        self._lock = threading.Lock()
        self._system: System | None = None
        self._pid = 0
        self._looked_at = 0.0
        self._told = ""

    def system(self) -> System:
        """The System of this process. Ask for it anew for each task: it may be another one by then."""
        with self._lock:
            if self._system is None or self._pid != os.getpid():
                self._system, self._pid = self._assembled(), os.getpid()
            elif time.monotonic() - self._looked_at >= LOOK_EVERY_S:
                self._looked_at = time.monotonic()
                if self._is_old(self._system):
                    self._renew(self._system.store.revisions)
            if self._system.inventory is not self._inventory:
                self._system = self._assembled()
            return self._system

    def store_url(self) -> str:
        """Of the inventory that is loaded: what stands in the file by now changes nothing in a process that
        runs. Raises InventoryError.
        """
        return self._inventory.store_url()

    def revision(self, revisions: Revisions) -> int | None:
        """The revision that is loaded here, None for a file that was never applied. Needs no System, so a
        parent of forked workers may ask. Raises StoreUnreachable.
        """
        with self._lock:
            self._renew(revisions)
            return revisions.place(self._inventory.sha256)[0]

    def _assembled(self) -> System:
        return assemble(self._inventory, dispatch=CeleryDispatch(self._app), lasting=True)

    @staticmethod
    def _is_old(system: System) -> bool:
        """False as well while the store does not answer: then there is nothing to compare with."""
        try:
            return system.revision.problem() is not None
        except StoreUnreachable:
            return False

    def _renew(self, revisions: Revisions) -> None:
        """Takes the file on this machine for the loaded one when that was not applied, and it is.

        An edited file that was not applied yet changes nothing in a process that runs.
        """
        try:
            own, applied = revisions.place(self._inventory.sha256)
            if applied is None or own == applied:
                return
            found = load(self._inventory.path, os.environ)
            if revisions.place(found.sha256)[0] != applied:
                return
        except (StoreUnreachable, InventoryError) as error:
            self._tell(f"the file cannot be compared with the applied revision: {error}")
            return
        if (found.store, found.broker) != (self._inventory.store, self._inventory.broker):
            self._tell(f"revision {applied} has another store or broker: restart this process")
            return
        self._inventory = found
        log.warning("this process has loaded revision %s of the inventory", applied)

    def _tell(self, trouble: str) -> None:
        """Once, not at every look."""
        if trouble != self._told:
            log.warning("%s", trouble)
        self._told = trouble
