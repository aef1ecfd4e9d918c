"""TrafficRouter: exactly one server takes the writes."""

from __future__ import annotations

import pytest

from ha_tasks.errors import UsageError
from ha_tasks.failover.load_balancer import LoadBalancer
from ha_tasks.failover.traffic_router import TrafficRouter
from ha_tasks.model.balancer import ServerState
from ha_tasks.model.platform import Instance, Role, Routing, Service, ServiceKind
from tests.fakes.balancer import FakeBalancer
from tests.fakes.clock import FakeClock
from tests.fakes.repositories import FakeWantedServers

NODES = ("pg1", "pg2", "pg3")
INSTANCES = tuple(
    Instance(name=name, service="db", host=name, address="127.0.0.1:1", role=Role.NODE) for name in NODES
)


def service(read_backend: str | None = "pg_read", *, routed: bool = True) -> Service:
    routing = Routing(backend="pg_write", entry="127.0.0.1:1", read_backend=read_backend)
    return Service(
        name="db",
        kind=ServiceKind.POSTGRES,
        instances=INSTANCES,
        routing=routing if routed else None,
    )


@pytest.fixture
def edge() -> FakeBalancer:
    writes = {("pg_write", n): ServerState.READY if n == "pg1" else ServerState.MAINT for n in NODES}
    reads = {("pg_read", n): ServerState.MAINT if n == "pg1" else ServerState.READY for n in NODES}
    return FakeBalancer(writes | reads)


@pytest.fixture
def router(edge: FakeBalancer) -> TrafficRouter:
    return TrafficRouter(LoadBalancer({"edge": edge}, FakeWantedServers(), FakeClock()))


def test_the_node_that_takes_the_writes_is_the_only_ready_one(
    router: TrafficRouter, edge: FakeBalancer
) -> None:
    router.route_writes(service(), "pg2")

    assert edge.states("pg_write") == {"pg1": "maint", "pg2": "ready", "pg3": "maint"}


def test_the_others_are_out_with_their_sessions_ended_before_the_new_one_is_in(
    router: TrafficRouter, edge: FakeBalancer
) -> None:
    router.route_writes(service(), "pg2")

    assert [command for command in edge.commands if command[2] == "pg1"] == [
        ("maint", "pg_write", "pg1"),
        ("shut", "pg_write", "pg1"),
    ]
    assert edge.commands[-1] == ("ready", "pg_write", "pg2")


def test_routing_writes_twice_changes_nothing(router: TrafficRouter, edge: FakeBalancer) -> None:
    router.route_writes(service(), "pg2")
    states = edge.states("pg_write")

    router.route_writes(service(), "pg2")

    assert edge.states("pg_write") == states


@pytest.mark.parametrize("move", ["route_writes", "isolate"])
def test_a_node_that_does_not_exist_closes_nothing(
    router: TrafficRouter, edge: FakeBalancer, move: str
) -> None:
    with pytest.raises(UsageError, match="db has no node pg9"):
        getattr(router, move)(service(), "pg9")

    assert edge.commands == []


def test_reads_go_to_the_named_nodes_and_no_session_is_cut(router: TrafficRouter, edge: FakeBalancer) -> None:
    router.route_reads(service(), ["pg1", "pg3"])

    assert edge.states("pg_read") == {"pg1": "ready", "pg2": "maint", "pg3": "ready"}
    assert not [command for command in edge.commands if command[0] == "shut"]


def test_without_a_node_the_reads_stay_where_they_are(router: TrafficRouter, edge: FakeBalancer) -> None:
    router.route_reads(service(), [])

    assert edge.commands == []


def test_a_service_without_a_backend_for_reads_has_none_to_route(
    router: TrafficRouter, edge: FakeBalancer
) -> None:
    router.route_reads(service(read_backend=None), ["pg2"])

    assert edge.commands == []


def test_an_isolated_node_serves_nobody(router: TrafficRouter, edge: FakeBalancer) -> None:
    router.isolate(service(), "pg1")

    assert edge.states("pg_write") == {"pg1": "maint", "pg2": "maint", "pg3": "maint"}
    assert edge.states("pg_read")["pg1"] == "maint"
    assert ("shut", "pg_write", "pg1") in edge.commands


def test_a_service_without_routing_is_an_error_of_usage(router: TrafficRouter) -> None:
    with pytest.raises(UsageError, match="no routing"):
        router.route_writes(service(routed=False), "pg1")
