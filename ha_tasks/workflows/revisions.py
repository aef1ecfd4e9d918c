"""Where this process stands among the applied revisions of the inventory."""

from __future__ import annotations

import logging
import threading

from ha_tasks.model.revision import Standing, standing_of
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.revisions import Revisions

log = logging.getLogger(__name__)

BELIEVED_FOR_S = 1.0
"""So long an old process may still begin something under its revision after another was applied."""


class RevisionWatch:
    """Asked before anything is begun; asks the store at most once a second."""

    def __init__(self, *, revisions: Revisions, sha256: str, clock: Clock) -> None:
        """``sha256``: of the inventory that this process has loaded."""
        self._revisions = revisions
        self._sha256 = sha256
        self._clock = clock
        self._lock = threading.Lock()
        self._asked_at: float | None = None
        self._standing = Standing()
        self._told: str | None = None

    def standing(self) -> Standing:
        """Where it stands. Raises StoreUnreachable."""
        with self._lock:
            now = self._clock.monotonic()
            if self._asked_at is None or now - self._asked_at >= BELIEVED_FOR_S:
                self._standing = standing_of(*self._revisions.place(self._sha256))
                self._asked_at = now
                self._tell(self._standing.problem)
            return self._standing

    def problem(self) -> str | None:
        """Why this process takes no new work; None when it does. Raises StoreUnreachable."""
        return self.standing().problem

    def _tell(self, problem: str | None) -> None:
        """Once, not at every look."""
        if problem is not None and problem != self._told:
            log.warning("this process takes no new work: %s", problem)
        if problem is None and self._told is not None:
            log.warning("this process takes work again, under revision %s", self._standing.own)
        self._told = problem
