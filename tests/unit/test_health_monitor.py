"""HealthMonitor: all instances of all services, side by side."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from ha_tasks.errors import UsageError
from ha_tasks.failover.health_monitor import HealthMonitor
from ha_tasks.model.health import ServiceState
from ha_tasks.model.platform import Instance, Role, Service, ServiceKind
from ha_tasks.model.probe import OutcomeKind, ProbeOutcome
from tests.fakes.clock import START, FakeClock
from tests.fakes.probes import FakeProber


def service(name: str, kind: ServiceKind, *instances: str) -> Service:
    made = tuple(
        Instance(name=i, service=name, host="h", address="127.0.0.1:1", role=Role.ACTIVE) for i in instances
    )
    return Service(name=name, kind=kind, instances=made)


WEB = service("web", ServiceKind.HTTP, "web1", "web2")
CACHE = service("cache", ServiceKind.REDIS, "cache1")


def test_every_instance_of_every_service_is_looked_at() -> None:
    prober = FakeProber(FakeClock(), kinds={"web2": OutcomeKind.REFUSED})
    monitor = HealthMonitor({ServiceKind.HTTP: prober, ServiceKind.REDIS: prober})

    seen = {o.target.instance: o.kind for o in monitor.look([WEB, CACHE])}

    assert seen == {"web1": "ok", "web2": "refused", "cache1": "ok"}


def test_services_are_looked_at_side_by_side() -> None:
    both = threading.Barrier(2, timeout=5)

    class Meeting(FakeProber):
        def probe(self, service: Service, instances: Sequence[Instance]) -> list[ProbeOutcome]:
            both.wait()  # one after the other would never get past here
            return super().probe(service, instances)

    prober = Meeting(FakeClock())
    monitor = HealthMonitor({ServiceKind.HTTP: prober, ServiceKind.REDIS: prober})

    assert len(monitor.look([WEB, CACHE])) == 3


def test_no_service_gives_no_outcome() -> None:
    assert HealthMonitor({}).look([]) == []


def test_a_kind_that_nothing_can_probe_is_an_error_of_usage() -> None:
    with pytest.raises(UsageError, match="nothing here can probe web, a http service"):
        HealthMonitor({}).look([WEB])


def test_a_service_is_assessed_by_its_own_outcomes_only() -> None:
    prober = FakeProber(FakeClock(), kinds={"web2": OutcomeKind.REFUSED})
    monitor = HealthMonitor({ServiceKind.HTTP: prober, ServiceKind.REDIS: prober})
    outcomes = monitor.look([WEB, CACHE])

    health = monitor.assess(WEB, outcomes, {"web1", "web2"}, START)

    assert (health.state, health.score) == (ServiceState.DEGRADED, 0.5)
    assert health.instances == {"web1": 1.0, "web2": 0.0}
