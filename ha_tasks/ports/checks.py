"""Looks that tell how well something is: machines, databases from inside, what lies outside, one's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ha_tasks.model.platform import External, Service
from ha_tasks.model.system_health import Examined, HostReading


class HostResources(Protocol):
    """Machines."""

    def resources(self, host: str, *, timeout_s: float = 1.0) -> HostReading:
        """What is in use on that machine now. AgentUnreachable (retryable); reads only."""
        ...


class DeepCheck(Protocol):
    """Databases of one kind of service, asked from inside."""

    def examine(self, service: Service, timeout_s: float) -> Sequence[Examined]:
        """Checks of the service, each within ``timeout_s``; never raises for a server that does not answer.

        It writes nothing but a canary, under a name of ha_tasks, and only where the service is ours.
        """
        ...


class ExternalCheck(Protocol):
    """What the platform needs and does not own."""

    def examine(self, dependency: External) -> Examined:
        """One look within the dependency's timeout (plus 0.2 s); never raises for one that is down."""
        ...


class OwnCheck(Protocol):
    """A check of an installed package, by an entry point of the group ``ha_tasks.checks``.

    The entry point's value is a factory that is given ``ActionTools`` and answers such an object.
    """

    def examine(self) -> Examined:
        """Answers within 5 s, or counts as hanging; what it raises is told as its problem. Reads only.

        ``subject`` and ``check`` of the answer are its own words.
        """
        ...


class OwnChecks(Protocol):
    """Every check that installed packages offer."""

    def examine_all(self) -> Sequence[Examined]:
        """All of them, side by side; never raises."""
        ...
