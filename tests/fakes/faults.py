"""Faults that only leave a record, and a load whose answers a test chooses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from ha_tasks.errors import ServiceUnreachable
from ha_tasks.model.load import LoadReport
from ha_tasks.model.plain import Json
from ha_tasks.model.scenario import Deed
from ha_tasks.ports.clock import Clock


@dataclass
class FakeFaults:
    """See ports/faults.py (Faults). ``running`` are the processes and nodes that can be hit.

    ``suffer(deed, target)`` is called at each fault, so that a test can let its world suffer it.
    ``lacking`` are deeds that cannot be done here, each with what it lacks.
    """

    clock: Clock
    running: set[str] = field(default_factory=set)
    counted: Json = field(default_factory=dict)
    suffer: Callable[[Deed, str], None] = lambda deed, target: None
    lacking: dict[Deed, str] = field(default_factory=dict)
    injected: list[tuple[Deed, str]] = field(default_factory=list)
    lasting: set[str] = field(default_factory=set)
    armed: set[str] = field(default_factory=set)

    def missing(self, deed: Deed) -> str | None:
        return self.lacking.get(deed)

    def inject(self, deed: Deed, target: str) -> datetime:
        if deed is Deed.ARM:
            self.armed.add(target)
        elif target not in self.running:
            raise ServiceUnreachable(f"{target} does not run")
        elif deed not in (Deed.KILL, Deed.KILL_POSTMASTER):
            self.lasting.add(target)
        moment = self.clock.now()
        self.injected.append((deed, target))
        self.suffer(deed, target)
        return moment

    def release(self) -> tuple[str, ...]:
        unreached = tuple(f"nobody came to the boundary {name}" for name in sorted(self.armed))
        self.armed.clear()
        self.lasting.clear()
        return unreached

    def evidence(self) -> Json:
        return dict(self.counted)


@dataclass
class FakeLoad:
    """See ports/faults.py (Load). ``report`` makes what it answers at its end."""

    report: Callable[[], LoadReport]
    is_on: bool = False

    def start(self) -> None:
        self.is_on = True

    def acknowledged(self) -> int:
        return len(self.report().acks)

    def stop(self) -> LoadReport:
        self.is_on = False
        return self.report()


@dataclass
class FakeLoads:
    """See ports/faults.py (Loads): the same load for everybody."""

    load: FakeLoad

    def writes(self, service: str, *, writers: int = 4, pause_s: float = 0.05) -> FakeLoad:
        return self.load

    def gets(self, service: str, *, clients: int = 4, pause_s: float = 0.01) -> FakeLoad:
        return self.load


@dataclass
class FakeApplications:
    """See ports/faults.py (Applications): the same load for everybody."""

    load: FakeLoad

    def requests(self, service: str) -> FakeLoad:
        return self.load
