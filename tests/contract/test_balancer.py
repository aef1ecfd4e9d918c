"""One contract for balancers: the fake, and a real HAProxy over both kinds of socket."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ha_tasks.adapters.haproxy import HaproxyControl
from ha_tasks.errors import BalancerError, BalancerUnreachable
from ha_tasks.failover.load_balancer import LoadBalancer
from ha_tasks.failover.traffic_router import TrafficRouter
from ha_tasks.model.balancer import Member, ServerState, ServerStatus
from ha_tasks.model.platform import Instance, Role, Routing, Service, ServiceKind
from ha_tasks.ports.balancer import BalancerControl
from tests.fakes.balancer import FakeBalancer
from tests.fakes.clock import FakeClock
from tests.fakes.repositories import FakeWantedServers
from tests.haproxy_server import Greeter, HaproxyServer
from tests.servers import free_port

READY, DRAIN, MAINT = ServerState.READY, ServerState.DRAIN, ServerState.MAINT
SERVERS = {("web", "web1"), ("web", "web2"), ("pg_write", "pg1"), ("pg_write", "pg2")}


@dataclass
class Edge:
    """A real HAProxy with two greeters behind ``pg_write`` and nothing behind ``web``."""

    server: HaproxyServer
    greeters: dict[str, Greeter]

    def client(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.server.ports["pg_write"]), timeout=5)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    greeters = {name: Greeter(name) for name in ("pg1", "pg2")}
    home = tmp_path_factory.mktemp("edge")
    server = HaproxyServer(
        home,
        web={"web1": free_port(), "web2": free_port()},
        nodes={name: greeter.port for name, greeter in greeters.items()},
    )
    server.start()
    yield Edge(server, greeters)
    server.stop()
    for greeter in greeters.values():
        greeter.close()


@pytest.fixture
def edge(running: Edge) -> Edge:
    """The real one in its first state."""
    control = HaproxyControl(running.server.socket)
    for server, state in {"pg1": READY, "pg2": MAINT}.items():
        control.set_state("pg_write", server, state)
        control.shut_sessions("pg_write", server)
    return running


@pytest.fixture(params=["fake", "tcp", "unix"])
def control(request: pytest.FixtureRequest) -> BalancerControl:
    if request.param == "fake":
        return FakeBalancer({key: MAINT if key[1] == "pg2" else READY for key in SERVERS})
    server = request.getfixturevalue("edge").server
    return HaproxyControl(server.socket if request.param == "tcp" else server.unix_socket)


def status(control: BalancerControl, backend: str, server: str) -> ServerStatus:
    return next(s for s in control.servers() if (s.backend, s.server) == (backend, server))


def test_every_server_of_every_backend_is_listed(control: BalancerControl) -> None:
    assert {(s.backend, s.server) for s in control.servers()} == SERVERS


def test_a_server_that_was_closed_at_the_start_is_in_maintenance_and_not_up(control: BalancerControl) -> None:
    found = status(control, "pg_write", "pg2")

    assert (found.admin, found.up, found.sessions) == (MAINT, False, 0)


@pytest.mark.parametrize("state", [READY, DRAIN, MAINT])
def test_a_state_is_taken_and_may_be_set_twice(control: BalancerControl, state: ServerState) -> None:
    control.set_state("pg_write", "pg2", state)
    control.set_state("pg_write", "pg2", state)

    found = status(control, "pg_write", "pg2")
    assert (found.admin, found.up) == (state, state is not MAINT)


def test_drain_ends_when_it_is_made_ready(control: BalancerControl) -> None:
    for state in (DRAIN, READY, MAINT, READY):
        control.set_state("pg_write", "pg2", state)

    assert status(control, "pg_write", "pg2").admin is READY


def test_sessions_may_be_shut_where_there_are_none(control: BalancerControl) -> None:
    control.shut_sessions("pg_write", "pg2")

    assert status(control, "pg_write", "pg2").sessions == 0


@pytest.mark.parametrize(("backend", "server"), [("pg_write", "pg9"), ("nowhere", "pg1")])
def test_a_server_that_it_does_not_know_is_refused(
    control: BalancerControl, backend: str, server: str
) -> None:
    with pytest.raises(BalancerError):
        control.set_state(backend, server, READY)
    with pytest.raises(BalancerError):
        control.shut_sessions(backend, server)


@pytest.mark.parametrize("name", ["pg2 state ready;shutdown sessions server pg_write/pg1", "a\nb", "", "a/b"])
def test_a_name_cannot_smuggle_in_a_command(control: BalancerControl, name: str) -> None:
    with pytest.raises(BalancerError):
        control.set_state("pg_write", name, MAINT)
    assert status(control, "pg_write", "pg1").admin is READY


@pytest.mark.parametrize("kind", ["fake", "tcp", "unix"])
def test_nobody_listening_is_unreachable(kind: str, tmp_path: Path) -> None:
    fake = FakeBalancer({})
    fake.reachable = False
    gone: BalancerControl = {
        "fake": fake,
        "tcp": HaproxyControl(f"tcp://127.0.0.1:{free_port()}"),
        "unix": HaproxyControl(f"unix://{tmp_path}/none.sock"),
    }[kind]

    with pytest.raises(BalancerUnreachable):
        gone.servers()


# What only a real HAProxy can show.


def test_sessions_are_counted_and_end_when_they_are_shut(edge: Edge) -> None:
    control = HaproxyControl(edge.server.socket)
    with edge.client() as client:
        edge.greeters["pg1"].greet()
        assert client.recv(100) == b"pg1\n"
        assert status(control, "pg_write", "pg1").sessions == 1

        control.shut_sessions("pg_write", "pg1")

        assert client.recv(100) == b""
        assert status(control, "pg_write", "pg1").sessions == 0


def test_maintenance_alone_leaves_a_session_open(edge: Edge) -> None:
    control = HaproxyControl(edge.server.socket)
    with edge.client():
        edge.greeters["pg1"].greet()
        control.set_state("pg_write", "pg1", MAINT)

        assert status(control, "pg_write", "pg1").sessions == 1


def test_a_server_whose_check_fails_is_ready_and_not_up(edge: Edge) -> None:
    control = HaproxyControl(edge.server.socket)
    deadline = time.monotonic() + 5
    while status(control, "web", "web1").up and time.monotonic() < deadline:
        time.sleep(0.02)

    found = status(control, "web", "web1")
    assert (found.admin, found.up) == (READY, False)


def test_a_frozen_balancer_is_unreachable_by_the_deadline(tmp_path: Path) -> None:
    frozen = HaproxyServer(tmp_path, web={"web1": free_port()}, nodes={"pg1": free_port()})
    frozen.start()
    frozen.freeze()
    begun = time.monotonic()
    try:
        with pytest.raises(BalancerUnreachable):
            HaproxyControl(frozen.socket, timeout_s=0.3).servers()
        assert 0.25 < time.monotonic() - begun < 1.0
    finally:
        frozen.stop()


DB = Service(
    name="db",
    kind=ServiceKind.POSTGRES,
    instances=tuple(
        Instance(name=name, service="db", host=name, address="127.0.0.1:1", role=Role.NODE)
        for name in ("pg1", "pg2")
    ),
    routing=Routing(backend="pg_write", entry="127.0.0.1:1"),
)


def test_moving_the_writes_ends_old_sessions_and_new_ones_reach_the_new_node(edge: Edge) -> None:
    balancer = LoadBalancer({"edge": HaproxyControl(edge.server.socket)}, FakeWantedServers(), FakeClock())
    with edge.client() as old:
        edge.greeters["pg1"].greet()
        assert old.recv(100) == b"pg1\n"
        begun = time.monotonic()

        TrafficRouter(balancer).route_writes(DB, "pg2")
        took_s = time.monotonic() - begun

        assert old.recv(100) == b""
        with edge.client() as new:
            edge.greeters["pg2"].greet()
            assert new.recv(100) == b"pg2\n"
    assert took_s < 1.0


def test_a_registered_server_is_there_again_after_a_restart_of_haproxy(tmp_path: Path) -> None:
    server = HaproxyServer(tmp_path, web={"web1": free_port()}, nodes={"pg1": free_port()})
    member = Member(backend="web", server="late", address="127.0.0.1:25103", state=READY)
    server.start()
    try:
        control = HaproxyControl(server.socket)
        members = [member]
        balancer = LoadBalancer(
            {"edge": control}, FakeWantedServers(), FakeClock(), members=lambda: tuple(members)
        )
        balancer.reconcile()
        assert status(control, "web", "late").admin is READY
        server.stop()
        server.start()
        assert {s.server for s in control.servers()} == {"web1", "pg1"}

        balancer.reconcile()
        assert status(control, "web", "late").admin is READY

        members[:] = [replace(member, state=None)]
        balancer.reconcile()
        balancer.reconcile()
        assert {s.server for s in control.servers()} == {"web1", "pg1"}
    finally:
        server.stop()


def test_what_is_wanted_survives_a_restart_of_haproxy(tmp_path: Path) -> None:
    server = HaproxyServer(
        tmp_path, web={"web1": free_port()}, nodes={"pg1": free_port(), "pg2": free_port()}
    )
    server.start()
    try:
        control = HaproxyControl(server.socket)
        balancer = LoadBalancer({"edge": control}, FakeWantedServers(), FakeClock())
        TrafficRouter(balancer).route_writes(DB, "pg2")
        server.stop()
        server.start()
        assert status(control, "pg_write", "pg1").admin is READY

        repaired = balancer.reconcile()

        assert {(d.server, d.wanted) for d in repaired} == {("pg1", MAINT), ("pg2", READY)}
        assert status(control, "pg_write", "pg1").admin is MAINT
        assert status(control, "pg_write", "pg2").admin is READY
    finally:
        server.stop()


def test_a_server_is_added_in_maintenance_moved_and_deleted_again(control: BalancerControl) -> None:
    for _ in range(2):
        control.add_server("web", "late", "127.0.0.1:25103")
    assert status(control, "web", "late").admin is MAINT

    for _ in range(2):
        control.move_server("web", "late", "127.0.0.2:25104")
    assert (status(control, "web", "late").address, status(control, "web", "late").weight) == (
        "127.0.0.2:25104",
        100,
    )

    control.set_state("web", "late", READY)
    with pytest.raises(BalancerError):
        control.delete_server("web", "late")
    control.set_state("web", "late", MAINT)
    for _ in range(2):
        control.delete_server("web", "late")
    assert {(s.backend, s.server) for s in control.servers()} == SERVERS


@pytest.mark.parametrize(
    ("backend", "address"), [("nowhere", "127.0.0.1:1"), ("web", "a.example:80"), ("web", "127.0.0.1:1 x")]
)
def test_a_server_that_cannot_be_added_is_refused(
    control: BalancerControl, backend: str, address: str
) -> None:
    with pytest.raises(BalancerError):
        control.add_server(backend, "late", address)
    assert {(s.backend, s.server) for s in control.servers()} == SERVERS


def test_a_server_of_the_configuration_is_never_deleted(control: BalancerControl) -> None:
    with pytest.raises(BalancerError):
        control.delete_server("pg_write", "pg2")
    assert status(control, "pg_write", "pg2").admin is MAINT
