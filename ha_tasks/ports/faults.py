"""Faults that a drill injects; implemented by the embedded stack."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from ha_tasks.model.load import LoadReport
from ha_tasks.model.plain import Json
from ha_tasks.model.scenario import Deed


class Faults(Protocol):
    """Real faults; what a deed does and how long it lasts says ``Deed``."""

    def missing(self, deed: Deed) -> str | None:
        """What the deed would need and does not have here, and how to get it; None: it can be done."""
        ...

    def inject(self, deed: Deed, target: str) -> datetime:
        """The moment (aware UTC) just before the first signal was sent.

        ``target``: a process of state.json for KILL and HOLD, an instance for BREAK_CONFIG, a boundary for
        ARM, nothing for LOCK_STORE, otherwise a node. Raises ServiceUnreachable when there is nothing to
        hit, DeadlineExceeded when it did not come to effect.
        """
        ...

    def release(self) -> tuple[str, ...]:
        """Heals every lasting fault, also those of a drill that was killed; idempotent.

        Answers which of them had never come to effect (a boundary that nobody reached).
        """
        ...

    def evidence(self) -> Json:
        """What the resources themselves count, compared before and after a drill.

        ``starts.<instance>`` (int): starts of an HTTP instance's unit, by its host's agent;
        ``files.<service>`` (str): digests of what an HTTP service is served from, by the same;
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


class Applications(Protocol):
    """Runs an application as users of a PostgreSQL service write them."""

    def requests(self, service: str) -> Load:
        """Requests to an application that is started with the load and ended with it.

        Its handler writes through the service's write entry with a pool of connections; a request is
        acknowledged by 200.
        """
        ...
