"""Instances that register themselves: who serves, what is refused, what Prometheus reads."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_tasks.cli.root import run
from ha_tasks.errors import Refused
from ha_tasks.failover.load_balancer import LoadBalancer
from ha_tasks.failover.service_discovery import ServiceRegistry
from ha_tasks.model.balancer import ServerState
from ha_tasks.model.platform import Instance, Platform, Role, Routing, Service, ServiceKind
from ha_tasks.model.registration import NewRegistration, Registration, faults, forgotten, is_last, serving
from tests.fakes.balancer import FakeBalancer
from tests.fakes.clock import FakeClock
from tests.fakes.registrations import FakeRegistrations
from tests.fakes.repositories import FakeWantedServers
from tests.plans import NOW, at
from tests.unit.inventory_files import write_inventory

WEB = Service(
    name="web",
    kind=ServiceKind.HTTP,
    instances=(Instance(name="web1", service="web", host="h", address="10.0.0.1:80", role=Role.ACTIVE),),
    routing=Routing(backend="be", entry="http://10.0.0.8/"),
)
PLATFORM = Platform(name="p", services={"web": WEB}, hosts={}, balancers={})
READY, DRAIN, MAINT = ServerState.READY, ServerState.DRAIN, ServerState.MAINT


def registration(name: str, age_s: float = 0, ttl_s: float = 10, service: str = "web") -> Registration:
    since = NOW - timedelta(seconds=age_s)
    return Registration(
        service=service,
        name=name,
        address="10.0.0.9:80",
        role=Role.ACTIVE,
        metadata={},
        lease=1,
        ttl_s=ttl_s,
        registered_at=since,
        renewed_at=since,
    )


REGISTRATIONS = st.lists(
    st.builds(
        registration,
        name=st.sampled_from("abcd"),
        age_s=st.floats(0, 3e5),
        ttl_s=st.floats(1, 3e5),
        service=st.sampled_from(["web", "api"]),
    ),
    unique_by=lambda r: (r.service, r.name),
)


@given(REGISTRATIONS)
def test_a_service_that_has_registrations_always_has_somebody(known: list[Registration]):
    serves = serving(known, NOW)
    forgets = forgotten(known, NOW)

    assert {r.service for r in serves} == {r.service for r in known}
    assert all(r in serves for r in known if r.lives(NOW))
    assert not set(map(id, forgets)) & set(map(id, serves))
    for service in {r.service for r in known}:
        living = [r for r in known if r.service == service and r.lives(NOW)]
        stay = [r for r in living if is_last(r, known, NOW)]
        assert len(stay) == (1 if len(living) == 1 else 0)


def test_a_lease_ends_at_its_moment_and_not_before():
    made = registration("a")

    assert made.lives(at(9.99))
    assert not made.lives(at(10))


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (NewRegistration(service="web", name="a b", address="h:1", ttl_s=5), "is no name"),
        (NewRegistration(service="web", name="a;quit", address="h:1", ttl_s=5), "is no name"),
        (NewRegistration(service="web", name="a", address="h", ttl_s=5), "is no host:port"),
        (NewRegistration(service="web", name="a", address="h:99999", ttl_s=5), "is no host:port"),
        (NewRegistration(service="web", name="a", address="h:1", ttl_s=0), "a lease lasts"),
        (NewRegistration(service="web", name="a", address="h:1", ttl_s=float("nan")), "a lease lasts"),
        (NewRegistration(service="web", name="a", address="h:1", ttl_s=5, role=Role.NODE), "registers as"),
        (NewRegistration(service="web", name="a", address="h:1", ttl_s=5, metadata={"a-b": ""}), "is no key"),
    ],
)
def test_what_cannot_be_is_said(new: NewRegistration, said: str):
    assert [said in fault for fault in faults(new)] == [True]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with an inventory and a migrated store."""
    path = write_inventory(tmp_path / "home")
    monkeypatch.setenv("HA_TASKS_HOME", str(path.parent))
    monkeypatch.delenv("HA_TASKS_CONFIG", raising=False)
    assert run(["migrate"]) == 0
    return path.parent


def test_an_instance_registers_renews_and_is_told_to_prometheus(
    home: Path, capsys: pytest.CaptureFixture[str]
):
    file = home / "targets.json"
    capsys.readouterr()
    assert run(["registry", "register", "web", "web9", "10.0.0.9:80", "--meta", "zone=north", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)["registrations"][0]
    assert run(["registry", "renew", "web", "web9", str(made["lease"])]) == 0
    assert run(["registry", "file-sd", "--to", str(file)]) == 0
    groups = {group["labels"]["name"]: group for group in json.loads(file.read_text())}

    assert groups["web9"]["targets"] == ["10.0.0.9:80"]
    assert groups["web9"]["labels"] == {
        "service": "web",
        "name": "web9",
        "role": "active",
        "meta_zone": "north",
    }
    assert groups["web1"]["labels"]["service"] == "web"
    assert [path.name for path in home.glob(".targets*")] == []


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["register", "wbe", "a", "h:1"], 2, "the inventory has no service wbe"),
        (["register", "web", "web1", "h:1"], 2, "is an instance of the inventory"),
        (["register", "web", "a", "h:1", "--meta", "zone"], 2, "is no KEY=VALUE"),
        (["renew", "web", "ghost", "1"], 2, "register it again"),
        (["renew", "web", "web9", "99"], 3, "was registered anew"),
        (["remove", "web", "ghost"], 2, "is not registered"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_in_words(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, said: str
):
    assert run(["registry", "register", "web", "web9", "10.0.0.9:80"]) == 0

    assert run(["registry", *arguments]) == status
    assert said in capsys.readouterr().err


class Edge:
    """Two balancers that know ``web1`` alone, and a registry beside them."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.wanted = FakeWantedServers()
        self.registry = ServiceRegistry(PLATFORM, self.wanted, FakeRegistrations())
        self.controls = [FakeBalancer({("be", "web1"): READY}) for _ in range(2)]
        self.balancer = LoadBalancer(
            {str(number): control for number, control in enumerate(self.controls)},
            self.wanted,
            self.clock,
            members=lambda: self.registry.members(self.clock.now()),
        )

    def register(self, name: str, address: str = "10.0.0.9:80", role: Role = Role.ACTIVE) -> Registration:
        new = NewRegistration(service="web", name=name, address=address, ttl_s=10, role=role)
        return self.registry.register(new, self.clock.now())

    def settled(self) -> dict[str, str]:
        """What both have once they are reconciled: a second time there is nothing to do."""
        for _ in range(3):
            self.balancer.reconcile()
        assert self.balancer.reconcile() == ()
        first, second = (control.states("be") for control in self.controls)
        assert first == second
        return first


def test_who_registers_gets_traffic_from_every_balancer_and_a_spare_waits():
    edge = Edge()
    edge.register("a")
    edge.register("b", role=Role.SPARE)

    assert edge.settled() == {"web1": "ready", "a": "ready", "b": "maint"}


def test_a_reload_of_the_balancer_forgets_them_and_they_are_added_again():
    edge = Edge()
    edge.register("a")
    edge.settled()
    edge.controls[0].reload()

    assert edge.settled() == {"web1": "ready", "a": "ready"}


def test_an_instance_that_comes_back_elsewhere_is_moved():
    edge = Edge()
    edge.register("a")
    edge.settled()
    edge.register("a", address="10.0.0.10:81")
    edge.settled()

    found = {s.server: s.address for s in edge.controls[0].servers()}
    assert found["a"] == "10.0.0.10:81"


def test_who_left_or_expired_is_drained_and_taken_away():
    edge = Edge()
    for name in ("a", "b"):
        edge.register(name)
    edge.settled()
    for control in edge.controls:
        control.set_sessions("be", "a", 1)
    edge.registry.remove("web", "a", edge.clock.now())
    assert edge.settled() == {"web1": "ready", "a": "drain", "b": "ready"}

    for control in edge.controls:
        control.set_sessions("be", "a", 0)
    assert edge.settled() == {"web1": "ready", "b": "ready"}

    edge.clock.pause(60)
    assert edge.settled() == {"web1": "ready"}


def test_the_last_one_stays_while_nobody_of_the_inventory_is_in_rotation():
    edge = Edge()
    edge.register("a")
    edge.balancer.want({("be", "web1"): MAINT}, "it is unhealthy")
    edge.settled()

    with pytest.raises(Refused):
        edge.registry.remove("web", "a", edge.clock.now())
    edge.clock.pause(60)
    assert edge.settled() == {"web1": "maint", "a": "ready"}

    edge.balancer.want({("be", "web1"): READY}, "it is well again")
    assert edge.settled() == {"web1": "ready"}


def test_an_instance_under_a_name_that_no_balancer_can_look_up_is_left_to_others():
    edge = Edge()
    edge.register("a", address="somewhere.example:80")

    assert edge.settled() == {"web1": "ready"}
