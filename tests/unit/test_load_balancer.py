"""LoadBalancer: SQL first, then every balancer, and again until they agree."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ha_tasks.errors import BalancerError, BalancerUnreachable, Refused, UsageError
from ha_tasks.failover.load_balancer import LoadBalancer
from ha_tasks.model.balancer import Drift, ServerState
from ha_tasks.model.platform import Instance, Role, Routing, Service, ServiceKind
from tests.fakes.balancer import FakeBalancer
from tests.fakes.clock import FakeClock
from tests.fakes.repositories import FakeWantedServers

READY, DRAIN, MAINT = ServerState.READY, ServerState.DRAIN, ServerState.MAINT


def instances(**roles: Role) -> tuple[Instance, ...]:
    return tuple(
        Instance(name=name, service="s", host="h", address="127.0.0.1:1", role=role)
        for name, role in roles.items()
    )


WEB = Service(
    name="web",
    kind=ServiceKind.HTTP,
    instances=instances(web1=Role.ACTIVE, web2=Role.ACTIVE, web3=Role.SPARE),
    routing=Routing(backend="web", entry="http://127.0.0.1:1/"),
)
DB = Service(
    name="db",
    kind=ServiceKind.POSTGRES,
    instances=instances(pg1=Role.NODE, pg2=Role.NODE),
    routing=Routing(backend="pg_write", entry="127.0.0.1:1", read_backend="pg_read"),
)


def edge() -> FakeBalancer:
    return FakeBalancer(
        {
            ("web", "web1"): READY,
            ("web", "web2"): READY,
            ("web", "web3"): MAINT,
            ("pg_write", "pg1"): READY,
            ("pg_write", "pg2"): MAINT,
            ("pg_read", "pg1"): MAINT,
            ("pg_read", "pg2"): READY,
        }
    )


class World:
    """Two balancers, the store, a clock."""

    def __init__(self) -> None:
        self.one, self.two = edge(), edge()
        self.wanted, self.clock = FakeWantedServers(), FakeClock()
        self.balancer = LoadBalancer(
            {"one": self.one, "two": self.two}, self.wanted, self.clock, cut=("pg_write",)
        )

    def recorded(self) -> dict[tuple[str, str], str]:
        return {(w.backend, w.server): str(w.state) for w in self.wanted.all()}


@pytest.fixture
def world() -> World:
    return World()


def test_what_is_wanted_is_recorded_and_set_on_every_balancer(world: World) -> None:
    missed = world.balancer.want({("web", "web1"): MAINT}, "it is dead")

    assert missed == ()
    assert world.recorded() == {("web", "web1"): "maint"}
    assert world.one.states("web")["web1"] == world.two.states("web")["web1"] == "maint"


def test_what_is_taken_out_goes_before_what_is_put_in(world: World) -> None:
    world.balancer.want({("pg_write", "pg2"): READY, ("pg_write", "pg1"): MAINT}, "move")

    assert world.one.commands == [
        ("maint", "pg_write", "pg1"),
        ("shut", "pg_write", "pg1"),
        ("ready", "pg_write", "pg2"),
    ]


def test_a_balancer_that_does_not_answer_is_named_and_the_other_is_set(world: World) -> None:
    world.one.reachable = False

    assert world.balancer.want({("web", "web1"): MAINT}, "it is dead") == ("one",)
    assert world.two.states("web")["web1"] == "maint"


def test_when_no_balancer_answers_it_is_unreachable_but_recorded(world: World) -> None:
    world.one.reachable = world.two.reachable = False

    with pytest.raises(BalancerUnreachable, match=r"one: .*; two: "):
        world.balancer.want({("web", "web1"): MAINT}, "it is dead")

    assert world.recorded() == {("web", "web1"): "maint"}


def test_a_server_that_no_balancer_knows_is_an_error(world: World) -> None:
    with pytest.raises(BalancerError, match="No such server"):
        world.balancer.want({("web", "web9"): MAINT}, "it is dead")


class Meanwhile(FakeBalancer):
    """Somebody else changes what is wanted just before the first command arrives."""

    def __init__(self, other: FakeBalancer, change: Callable[[], object]) -> None:
        super().__init__({(s.backend, s.server): s.admin for s in other.servers()})
        self._change: Callable[[], object] | None = change

    def set_state(self, backend: str, server: str, state: ServerState) -> None:
        change, self._change = self._change, None
        if change is not None:
            change()
        super().set_state(backend, server, state)


def test_a_late_push_does_not_stand_against_a_newer_wish() -> None:
    wanted, clock = FakeWantedServers(), FakeClock()
    late = Meanwhile(edge(), lambda: wanted.want({("web", "web1"): READY}, "newer", clock.now()))
    balancer = LoadBalancer({"edge": late}, wanted, clock)

    balancer.want({("web", "web1"): MAINT}, "older")

    assert late.states("web")["web1"] == "ready"


def test_a_late_reconciliation_does_not_stand_against_a_newer_wish() -> None:
    wanted, clock = FakeWantedServers(), FakeClock()
    wanted.want({("web", "web1"): MAINT}, "older", clock.now())
    late = Meanwhile(edge(), lambda: wanted.want({("web", "web1"): READY}, "newer", clock.now()))

    LoadBalancer({"edge": late}, wanted, clock).reconcile()

    assert late.states("web")["web1"] == "ready"


def test_a_reload_is_repaired_and_the_drift_told(world: World) -> None:
    world.balancer.want({("pg_write", "pg1"): READY, ("pg_write", "pg2"): MAINT}, "as it is")
    world.one.reload()

    repaired = world.balancer.reconcile()

    assert repaired == (Drift(backend="pg_write", server="pg2", wanted=MAINT, actual=READY, balancer="one"),)
    assert world.one.states("pg_write") == {"pg1": "ready", "pg2": "maint"}
    assert world.balancer.reconcile() == ()


def test_reconciling_ends_sessions_where_a_server_must_not_take_writes(world: World) -> None:
    world.balancer.want({("pg_write", "pg2"): MAINT, ("web", "web3"): MAINT}, "as it is")
    world.one.reload()
    world.one.commands.clear()

    world.balancer.reconcile()

    assert ("shut", "pg_write", "pg2") in world.one.commands
    assert ("shut", "web", "web3") not in world.one.commands


def test_an_unreachable_balancer_does_not_keep_the_others_from_being_set(world: World) -> None:
    world.balancer.want({("web", "web1"): MAINT}, "it is dead")
    world.two.reload()
    world.one.reachable = False

    assert [d.balancer for d in world.balancer.reconcile()] == ["two"]
    assert world.two.states("web")["web1"] == "maint"


def test_a_balancer_that_comes_back_is_set_then(world: World) -> None:
    world.one.reachable = False
    world.balancer.want({("web", "web1"): MAINT}, "it is dead")
    world.one.reachable = True

    assert [d.balancer for d in world.balancer.reconcile()] == ["one"]


def test_a_refusal_does_not_keep_other_servers_from_being_set(world: World) -> None:
    class Refusing(FakeBalancer):
        def set_state(self, backend: str, server: str, state: ServerState) -> None:
            if server == "web1":
                raise BalancerError("no")
            super().set_state(backend, server, state)

    refusing = Refusing({("web", "web1"): READY, ("web", "web2"): READY})
    world.wanted.want({("web", "web1"): MAINT, ("web", "web2"): MAINT}, "both", world.clock.now())

    with pytest.raises(BalancerError, match="no"):
        LoadBalancer({"edge": refusing}, world.wanted, world.clock).reconcile()
    assert refusing.states("web")["web2"] == "maint"


def test_without_balancers_there_is_nothing_to_reconcile(world: World) -> None:
    assert LoadBalancer({}, world.wanted, world.clock).reconcile() == ()


def test_a_silent_balancer_is_told_once_and_once_when_it_is_back(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.one.reachable = False
    world.balancer.reconcile()
    world.balancer.reconcile()
    world.one.reachable = True
    world.balancer.reconcile()

    assert [r.message.split(",")[0] for r in caplog.records] == [
        "balancer one does not answer",
        "balancer one answers again",
    ]


def test_a_dead_web_instance_is_taken_out_without_cutting_requests(world: World) -> None:
    world.balancer.remove_unhealthy_instance(WEB, WEB.instance("web1"))

    assert world.one.commands == [("maint", "web", "web1")]


def test_a_hung_web_instance_loses_its_sessions(world: World) -> None:
    world.balancer.remove_unhealthy_instance(WEB, WEB.instance("web1"), hung=True)

    assert world.one.commands[-1] == ("shut", "web", "web1")


def test_the_last_instance_stays(world: World) -> None:
    alone = Service(
        name="web", kind=ServiceKind.HTTP, instances=instances(web1=Role.ACTIVE), routing=WEB.routing
    )

    with pytest.raises(Refused, match="last instance"):
        world.balancer.remove_unhealthy_instance(alone, alone.instance("web1"))
    assert world.one.commands == []


def test_the_last_active_instance_goes_when_a_spare_can_come(world: World) -> None:
    world.balancer.remove_unhealthy_instance(WEB, WEB.instance("web1"))
    world.balancer.remove_unhealthy_instance(WEB, WEB.instance("web2"))

    assert world.one.states("web") == {"web1": "maint", "web2": "maint", "web3": "maint"}


def test_a_healthy_web_instance_gets_traffic(world: World) -> None:
    world.balancer.add_healthy_instance(WEB, WEB.instance("web3"))

    assert world.two.states("web")["web3"] == "ready"


def test_a_database_node_is_taken_out_of_writes_and_reads_and_put_back_for_reads_only(world: World) -> None:
    world.balancer.remove_unhealthy_instance(DB, DB.instance("pg1"))
    world.balancer.add_healthy_instance(DB, DB.instance("pg1"))

    assert world.one.states("pg_write") == {"pg1": "maint", "pg2": "maint"}
    assert world.one.states("pg_read") == {"pg1": "ready", "pg2": "ready"}


def test_a_service_that_no_balancer_serves_is_an_error_of_usage(world: World) -> None:
    bare = Service(name="cache", kind=ServiceKind.REDIS, instances=instances(cache=Role.ACTIVE))

    with pytest.raises(UsageError, match="no routing"):
        world.balancer.add_healthy_instance(bare, bare.instance("cache"))


@pytest.mark.parametrize(
    ("disturb", "expected"),
    [
        pytest.param(lambda world: None, True, id="ready and up everywhere"),
        pytest.param(lambda world: world.one.set_up("web", "web1", False), False, id="down on one"),
        pytest.param(lambda world: world.two.set_state("web", "web1", DRAIN), False, id="drained on one"),
        pytest.param(lambda world: setattr(world.one, "reachable", False), True, id="one is silent"),
    ],
)
def test_a_server_is_up_when_every_balancer_that_answers_says_so(
    world: World, disturb: Callable[[World], None], expected: bool
) -> None:
    disturb(world)

    assert world.balancer.is_up("web", "web1") is expected


def test_an_unknown_server_is_not_up(world: World) -> None:
    assert not world.balancer.is_up("web", "web9")


def test_nobody_can_say_whether_a_server_is_up_when_no_balancer_answers(world: World) -> None:
    world.one.reachable = world.two.reachable = False

    with pytest.raises(BalancerUnreachable):
        world.balancer.is_up("web", "web1")


def test_a_drain_waits_for_the_last_session_on_every_balancer(world: World) -> None:
    world.one.set_sessions("web", "web1", 2)
    world.two.set_sessions("web", "web1", 1)
    steps = iter([("one", 0), ("two", 0)])

    def leave() -> None:
        name, left = next(steps)
        getattr(world, name).set_sessions("web", "web1", left)

    world.clock.on_pause = leave

    assert world.balancer.drain("web", "web1", 5.0)
    assert world.one.states("web")["web1"] == "maint"
    assert 0.05 < world.clock.elapsed_s < 0.2


def test_a_drain_that_takes_too_long_ends_in_maintenance_with_the_sessions_left_alone(world: World) -> None:
    world.one.set_sessions("web", "web1", 2)

    assert not world.balancer.drain("web", "web1", 1.0)
    assert world.one.states("web")["web1"] == "maint"
    assert world.balancer.sessions("web", "web1") == 2
    assert world.clock.elapsed_s == pytest.approx(1.0, abs=0.06)


def test_a_drain_does_not_overrule_somebody_who_wants_the_server_meanwhile(world: World) -> None:
    world.one.set_sessions("web", "web1", 2)

    def want_it() -> None:
        world.balancer.want({("web", "web1"): READY}, "it is needed")
        world.one.set_sessions("web", "web1", 0)

    world.clock.on_pause = want_it

    assert not world.balancer.drain("web", "web1", 1.0)
    assert world.one.states("web")["web1"] == "ready"
