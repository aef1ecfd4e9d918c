"""The manager of a cluster that others lead, which alone promotes there."""

from __future__ import annotations

from typing import Protocol

from ha_tasks.model.led_by_others import LedCluster
from ha_tasks.model.platform import Service


class ClusterWord(Protocol):
    """What a manager says. Raises ManagerUnreachable (retryable) when nobody answers in time."""

    def report(self, service: Service, *, timeout_s: float = 2.0) -> LedCluster:
        """Who leads, who follows, how far. Reads only."""
        ...


class ClusterManager(ClusterWord, Protocol):
    """One that takes orders, too. Raises ManagerRefused when it says no."""

    def switchover(self, service: Service, leader: str, candidate: str, *, timeout_s: float = 60.0) -> str:
        """Asks for a planned change of the leader; answers the manager's words once it is made.

        Compare-and-set on ``leader``: refused when another leads by now. When the answer is lost it may
        have been made all the same: ``report`` tells.
        """
        ...
