"""Faults that a drill injects; implemented by the embedded stack."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from ha_tasks.model.load import LoadReport
from ha_tasks.model.plain import Json


class Faults(Protocol):
    """Each verb returns the moment (aware UTC) just before the first signal was sent."""

    def kill_process(self, name: str) -> datetime:
        """SIGKILL for a process of state.json and all its descendants; reaps what is ours."""
        ...

    def kill_postmaster(self, node: str) -> datetime:
        """SIGKILL for the postmaster alone."""
        ...

    def kill_node(self, node: str) -> datetime:
        """SIGKILL for the node's agent and its whole PostgreSQL tree; the node stays away until released."""
        ...

    def freeze_agent(self, node: str) -> datetime:
        """SIGSTOP for the node's agent."""
        ...

    def release(self) -> None:
        """Ends every lasting fault: thaws what was frozen, lets nodes come back. Idempotent."""
        ...

    def evidence(self) -> Json:
        """What the resources themselves count, compared before and after a drill.

        ``starts.<instance>`` (int): starts of an HTTP instance's unit, by its host's agent;
        ``primary.<service>`` (str) and ``timeline.<service>`` (int): what the server says that takes the
        writes behind the service's entry. A key is left out when it cannot be asked.
        """
        ...


class Load(Protocol):
    """A steady load through the balancer."""

    def start(self) -> None:
        """Begins; returns once something was acknowledged. Raises ServiceUnreachable when nothing is."""
        ...

    def acknowledged(self) -> int:
        """How many so far."""
        ...

    def stop(self) -> LoadReport:
        """Ends, reads back what was acknowledged, and reports."""
        ...


class Loads(Protocol):
    """Makes loads."""

    def writes(self, service: str, *, writers: int = 4, pause_s: float = 0.05) -> Load:
        """Writes to a PostgreSQL service through its write entry."""
        ...

    def gets(self, service: str, *, clients: int = 4, pause_s: float = 0.01) -> Load:
        """GETs to an HTTP service through its entry; a GET counts as acknowledged when it answers 200."""
        ...
