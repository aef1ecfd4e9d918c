"""Faults that only leave a record, and a load whose answers a test chooses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from ha_tasks.errors import ServiceUnreachable
from ha_tasks.model.load import LoadReport
from ha_tasks.model.plain import Json
from ha_tasks.ports.clock import Clock


@dataclass
class FakeFaults:
    """See ports/faults.py (Faults). ``running`` are the processes and nodes that can be hit.

    ``inject(verb, name)`` is called at each fault, so that a test can let its world suffer it.
    """

    clock: Clock
    running: set[str] = field(default_factory=set)
    counted: Json = field(default_factory=dict)
    inject: Callable[[str, str], None] = lambda verb, name: None
    injected: list[tuple[str, str]] = field(default_factory=list)
    lasting: set[str] = field(default_factory=set)

    def kill_process(self, name: str) -> datetime:
        return self._hit("kill_process", name)

    def kill_postmaster(self, node: str) -> datetime:
        return self._hit("kill_postmaster", node)

    def kill_node(self, node: str) -> datetime:
        self.lasting.add(node)
        return self._hit("kill_node", node)

    def freeze_agent(self, node: str) -> datetime:
        self.lasting.add(node)
        return self._hit("freeze_agent", node)

    def release(self) -> None:
        self.lasting.clear()

    def evidence(self) -> Json:
        return dict(self.counted)

    def _hit(self, verb: str, name: str) -> datetime:
        if name not in self.running:
            raise ServiceUnreachable(f"{name} does not run")
        moment = self.clock.now()
        self.injected.append((verb, name))
        self.inject(verb, name)
        return moment


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
