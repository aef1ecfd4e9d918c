"""Looks that come to what they were told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ha_tasks.errors import HaTasksError
from ha_tasks.model.platform import External, Service
from ha_tasks.model.system_health import Examined, HostReading

IDLE = HostReading(load=0.1, memory=0.2, descriptors=0.01, disks={"/": 0.3})


class FakeHostResources:
    """See ports/checks.py. ``told`` by host name: a reading, or the error that is raised; else it is idle."""

    def __init__(self, told: Mapping[str, HostReading | HaTasksError] | None = None) -> None:
        self.told = dict(told or {})

    def resources(self, host: str, *, timeout_s: float = 1.0) -> HostReading:
        answer = self.told.get(host, IDLE)
        if isinstance(answer, HaTasksError):
            raise answer
        return answer


class FakeDeepCheck:
    """See ports/checks.py. ``told`` by service name; one that is not named is well."""

    def __init__(self, told: Mapping[str, Sequence[Examined]] | None = None) -> None:
        self.told = dict(told or {})

    def examine(self, service: Service, timeout_s: float) -> Sequence[Examined]:
        return self.told.get(service.name, [Examined(subject=service.name, check="canary")])


class FakeExternalCheck:
    """See ports/checks.py. ``told`` by name; one that is not named is well."""

    def __init__(self, told: Mapping[str, Examined] | None = None) -> None:
        self.told = dict(told or {})

    def examine(self, dependency: External) -> Examined:
        name = dependency.name
        return self.told.get(name, Examined(subject=name, check=str(dependency.kind)))


class FakeOwnChecks:
    """See ports/checks.py."""

    def __init__(self, *told: Examined) -> None:
        self.told = told

    def examine_all(self) -> Sequence[Examined]:
        return self.told
