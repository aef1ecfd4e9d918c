"""Renews a run's lease from a thread, every third of it, while a step is being taken."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ha_tasks.errors import StoreUnreachable, UsageError
from ha_tasks.model.run import Run
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.repositories import Journal

OVERTIME_S = 30.0
"""So long a step may take beyond what its plan grants it. Then it hangs: another executor takes over."""


class ThreadedLeaseKeeper:
    """One thread per step that is being taken; it ends with the block, within one renewal."""

    def __init__(
        self, *, journal: Journal, clock: Clock, lease_s: float, overtime_s: float = OVERTIME_S
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._lease_s = lease_s
        self._overtime_s = overtime_s

    @contextmanager
    def keep(self, run: Run) -> Iterator[Callable[[], bool]]:
        """See ports/lease.py."""
        lost, ended = threading.Event(), threading.Event()
        thread = threading.Thread(
            target=self._renew, args=(run, lost, ended), name=f"lease-{run.id}", daemon=True
        )
        thread.start()
        try:
            yield lost.is_set
        finally:
            ended.set()
            thread.join()

    def _renew(self, run: Run, lost: threading.Event, ended: threading.Event) -> None:
        """A store that cannot be reached is asked again until the lease would be over by itself."""
        valid_until = self._clock.monotonic() + self._lease_s
        hangs_from = self._clock.monotonic() + run.current.planned.timeout_s + self._overtime_s
        while not ended.wait(self._lease_s / 3):
            begun = self._clock.monotonic()
            if begun >= hangs_from:
                lost.set()
                return
            try:
                renewed = self._journal.renew(run.id, run.fence, self._clock.now(), self._lease_s)
            except (StoreUnreachable, UsageError):
                # UsageError: the tables are gone, as when an empty store took the place of ours.
                renewed = begun < valid_until
            else:
                valid_until = begun + self._lease_s
            if not renewed:
                lost.set()
                return
