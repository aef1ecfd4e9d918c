"""A failover on a toy cluster: what is promoted, what is refused, what is undone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ha_tasks.disaster_recovery.playbooks import load_playbooks
from ha_tasks.disaster_recovery.recovery_planner import RecoveryPlanner
from ha_tasks.errors import AgentUnreachable
from ha_tasks.failover.load_balancer import LoadBalancer
from ha_tasks.failover.traffic_router import TrafficRouter
from ha_tasks.model.balancer import ServerState
from ha_tasks.model.cluster import Cluster, ClusterState, sync_set_of
from ha_tasks.model.incident import IncidentKind, IncidentState
from ha_tasks.model.platform import ServiceKind
from ha_tasks.model.run import RunState
from ha_tasks.names import ActionName
from ha_tasks.ports.repositories import NewRun
from ha_tasks.recovery.recovery_orchestrator import RecoveryOrchestrator
from ha_tasks.workflows.actions import postgres, rejoin, sync_set
from ha_tasks.workflows.actions.verify import VerifyService, VerifyTools
from ha_tasks.workflows.cluster_moves import PostgresTools
from ha_tasks.workflows.reconcile import Reconciler
from ha_tasks.workflows.recovery import IncidentFollower
from tests.fakes.balancer import FakeBalancer
from tests.fakes.clock import FakeClock
from tests.fakes.dispatch import FakeDispatch
from tests.fakes.lease import FakeLeaseKeeper
from tests.fakes.repositories import FakeStore
from tests.fakes.toy_cluster import ToyCluster
from tests.unit.builders import at, database, platform

READY, MAINT = ServerState.READY, ServerState.MAINT
SETTLED = ("steady", "pg1", 1)


class Died(BaseException):
    """SIGKILL, as far as a fake can."""


class Path:
    def __init__(self, toy):
        self.toy = toy

    def try_once(self, service, token):
        self.toy.write_canary(service, "", token, 1)


class World:
    def __init__(self, service=None):
        self.service = service or database()
        self.platform = platform(self.service)
        self.store, self.clock, self.toy = FakeStore(), FakeClock(), ToyCluster()
        nodes = [i.name for i in self.service.instances]
        states = {("pg_write", n): READY if n == "pg1" else MAINT for n in nodes}
        states |= {("pg_read", n): MAINT if n == "pg1" else READY for n in nodes}
        self.haproxy = FakeBalancer(states)
        self.store.wanted.want(states, "at first", self.clock.now())
        balancer = LoadBalancer({"edge": self.haproxy}, self.store.wanted, self.clock)
        self.tools = PostgresTools(
            clusters=self.store.clusters,
            agents=self.toy,
            control=self.toy,
            balancer=balancer,
            router=TrafficRouter(balancer),
            wanted=self.store.wanted,
            clock=self.clock,
        )
        self.store.clusters.register(
            Cluster(
                name="db",
                epoch=1,
                primary="pg1",
                state=ClusterState.STEADY,
                sets=(sync_set_of(["pg2", "pg3"]),),
            ),
            self.clock.now(),
        )
        verify = VerifyTools(
            paths={ServiceKind.POSTGRES: Path(self.toy)},
            control=self.toy,
            clusters=self.store.clusters,
            ledger=self.store.ledger,
            baseline_s=lambda service: 0.002,
            clock=self.clock,
        )
        self.actions = {
            ActionName.OPEN_EPOCH: postgres.OpenEpoch(self.tools),
            ActionName.ISOLATE_PRIMARY: postgres.IsolatePrimary(self.tools),
            ActionName.FENCE_PRIMARY: postgres.FencePrimary(self.tools),
            ActionName.REVOKE_STANDBYS: postgres.RevokeStandbys(self.tools),
            ActionName.CHOOSE_CANDIDATE: postgres.ChooseCandidate(self.tools),
            ActionName.REPOINT_SURVIVORS: postgres.RepointSurvivors(self.tools),
            ActionName.PROMOTE_CANDIDATE: postgres.PromoteCandidate(self.tools),
            ActionName.ROUTE_WRITES: postgres.RouteWrites(self.tools),
            ActionName.COMMIT_PRIMARY: postgres.CommitPrimary(self.tools),
            ActionName.CHECKPOINT_PRIMARY: rejoin.CheckpointPrimary(self.tools),
            ActionName.REJOIN_NODE: rejoin.RejoinNode(self.tools),
            ActionName.AWAIT_STREAMING: rejoin.AwaitStreaming(self.tools),
            ActionName.WIDEN_SYNC_SET: sync_set.WidenSyncSet(self.tools),
            ActionName.NARROW_SYNC_SET: sync_set.NarrowSyncSet(self.tools),
            ActionName.ROUTE_READS: rejoin.RouteReads(self.tools),
            ActionName.VERIFY_SERVICE: VerifyService(verify),
        }
        self.dies_at = ""
        self.follower = IncidentFollower(
            incidents=self.store.incidents,
            journal=self.store.journal,
            limits=self.store.limits,
            ledger=self.store.ledger,
            clock=self.clock,
            actor="h/test",
        )
        self.orchestrator = RecoveryOrchestrator(
            platform=self.platform,
            journal=self.store.journal,
            incidents=self.store.incidents,
            actions=self.actions,
            clock=self.clock,
            dispatch=FakeDispatch(),
            leases=FakeLeaseKeeper(),
            owner="h/test/1",
            settled=self.follower.settled,
            boundary=self.boundary,
        )
        self.clock.on_pause = self.world_goes_on

    def world_goes_on(self):
        """The balancer sends clients to whoever is ready for writes."""
        ready = [s for s, state in self.haproxy.states("pg_write").items() if state == "ready"]
        self.toy.behind_entry = ready[0] if len(ready) == 1 else None

    def boundary(self, phase, action, point):
        self.world_goes_on()
        if self.dies_at == f"{phase}.{action}.{point}":
            self.dies_at = ""
            raise Died

    def kill(self, node, agent=False):
        self.toy.nodes[node].running = False
        self.toy.nodes[node].agent = not agent

    def recover(self, instance="pg1", kind=IncidentKind.PRIMARY_DOWN, accepts=None):
        incident, _ = self.store.incidents.open(
            key=f"db/{instance}/{kind}",
            service="db",
            instance=instance,
            kind=kind,
            severity="critical",
            summary="it is down",
            fault_at=at(0),
            now=self.clock.now(),
            actor="h/test",
            evidence={},
        )
        plan = RecoveryPlanner(self.platform, load_playbooks(())).create_recovery_plan(incident)
        new = NewRun(
            plan=replace(plan, accepts=accepts),
            incident=incident.id,
            mode="auto",
            requested_by="test",
            reason="test",
            idempotency_key=f"incident-{incident.id}-after-run-{incident.run}",
        )
        run, _ = self.store.journal.create(new, self.clock.now())
        moved = IncidentState.RECOVERING
        self.store.incidents.move(incident.id, moved, self.clock.now(), "t", "started", run=run.id)
        until = self.clock.now() + timedelta(minutes=30)
        while True:
            try:
                return self.orchestrator.drive(run.id, until)
            except Died:
                self.clock.advance(5)

    @property
    def cluster(self):
        return self.store.clusters.get("db")

    def writable(self):
        return [n for n in self.toy.nodes if self.toy.commit(n)]


def test_a_lost_primary_is_replaced_by_the_most_advanced_standby():
    world = World()
    world.toy.nodes["pg2"].upstream = None
    for _ in range(5):
        world.toy.commit("pg1")
    world.kill("pg1", agent=True)

    run = world.recover()

    assert run.state is RunState.SUCCEEDED, run.error
    assert (world.cluster.primary, world.cluster.state) == ("pg3", ClusterState.STEADY)
    assert world.cluster.sets == (sync_set_of(["pg2"]),)
    assert world.cluster.unfinished == ()
    assert world.haproxy.states("pg_write") == {"pg1": "maint", "pg2": "maint", "pg3": "ready"}
    assert world.writable() == ["pg3"]


def test_the_incident_is_mitigated_because_redundancy_is_not_back():
    world = World()
    world.kill("pg1", agent=True)
    run = world.recover()

    assert world.store.incidents.get(run.incident).state is IncidentState.MITIGATED


def test_the_old_primary_cannot_acknowledge_even_if_it_only_slept():
    world = World()
    world.toy.nodes["pg1"].agent = False

    run = world.recover()

    assert run.state is RunState.SUCCEEDED, run.error
    assert not world.toy.commit("pg1")
    assert len(world.writable()) == 1


@pytest.mark.parametrize("silent", ["pg2", "pg3"])
def test_when_a_standby_cannot_be_revoked_nothing_is_promoted_and_all_is_undone(silent):
    world = World()
    world.kill("pg1")
    world.toy.nodes[silent].agent = False

    run = world.recover()

    assert run.state is RunState.ROLLED_BACK, run.error
    assert "R + W <= N" in run.error
    assert (world.cluster.primary, world.cluster.state) == ("pg1", ClusterState.STEADY)
    assert [n.timeline for n in world.toy.nodes.values()] == [1, 1, 1]
    assert world.haproxy.states("pg_write") == {"pg1": "ready", "pg2": "maint", "pg3": "maint"}
    assert {n: world.toy.nodes[n].upstream for n in ("pg2", "pg3")} == {"pg2": "pg1", "pg3": "pg1"}
    assert world.writable() == ["pg1"]
    assert world.store.incidents.get(run.incident).state is IncidentState.ESCALATED


def test_a_refusal_on_a_host_that_is_gone_leaves_the_cluster_blocked():
    world = World()
    world.kill("pg1", agent=True)
    world.toy.nodes["pg3"].agent = False

    run = world.recover()

    assert run.state is RunState.ROLLED_BACK, run.error
    assert world.cluster.state is ClusterState.BLOCKED
    assert world.cluster.primary == "pg1"
    assert world.toy.nodes["pg2"].upstream == "pg1"


def test_a_blocked_cluster_is_steady_again_once_its_primary_takes_a_write():
    world = World()
    world.kill("pg1", agent=True)
    world.toy.nodes["pg3"].agent = False
    world.recover()
    world.toy.nodes["pg1"].running = world.toy.nodes["pg1"].agent = True
    world.world_goes_on()

    reconciler(world).clusters()

    assert world.cluster.state is ClusterState.STEADY


def test_a_blocked_cluster_gets_its_primary_back_with_its_host():
    """Refused while the host was away: nobody was promoted, so the recorded primary is the one to start."""
    world = World()
    world.kill("pg1", agent=True)
    world.toy.nodes["pg3"].agent = False
    world.recover()
    world.toy.nodes["pg1"].agent = True

    reconciler(world).clusters()
    world.world_goes_on()
    reconciler(world).clusters()

    assert world.writable() == ["pg1"]
    assert world.cluster.state is ClusterState.STEADY


def test_a_standby_that_follows_nobody_is_pointed_to_the_recorded_primary():
    world = World()
    world.toy.nodes["pg2"].upstream = None

    reconciler(world).clusters()

    assert world.toy.nodes["pg2"].upstream == "pg1"


def test_the_reconciler_leaves_a_cluster_alone_that_a_run_works_on():
    world = World()
    world.toy.nodes["pg2"].upstream = None
    seen = []
    world.actions[ActionName.OPEN_EPOCH].do = lambda ctx: (
        seen.append(reconciler(world).clusters() or world.toy.nodes["pg2"].upstream)
        or {"epoch": 0, "primary": "pg1"}
    )
    world.recover()

    assert seen[0] is None


def test_a_node_that_was_promoted_is_never_simply_pointed_elsewhere():
    world = World()
    world.toy.nodes["pg2"].upstream = None
    world.toy.nodes["pg2"].promotion_begun = 7

    reconciler(world).clusters()

    assert world.toy.nodes["pg2"].log == []


def reconciler(world, **more):
    return Reconciler(
        platform=world.platform,
        balancer=world.tools.balancer,
        tools=world.tools,
        journal=world.store.journal,
        ledger=world.store.ledger,
        incidents=world.store.incidents,
        actor="h/test",
        **more,
    )


def test_without_a_survivor_a_promotion_is_refused_under_durability():
    world = World()
    world.store.clusters.advance("db", 1, world.clock.now(), new_epoch=False, sets=[sync_set_of(["pg2"])])
    world.kill("pg1", agent=True)
    world.kill("pg3")

    run = world.recover()

    assert run.state is RunState.ROLLED_BACK
    assert "would have no standby" in run.error
    assert world.cluster.unfinished == ()


def test_while_two_sets_stand_both_must_be_satisfied():
    world = World()
    world.store.clusters.advance(
        "db",
        1,
        world.clock.now(),
        new_epoch=False,
        sets=[sync_set_of(["pg2"]), sync_set_of(["pg2", "pg3"])],
    )
    world.kill("pg1", agent=True)
    world.toy.nodes["pg3"].agent = False

    assert world.recover().state is RunState.ROLLED_BACK


def test_a_promotion_that_may_have_happened_is_not_undone():
    """The agent promotes, and its answer is lost, and then it is gone: a person must look."""
    world = World()
    world.kill("pg1", agent=True)
    promote = world.toy.promote

    def promoted_and_gone(node, setting, by, *, timeout_s=30.0):
        promote(node, setting, by)
        world.toy.nodes[node].agent = False
        raise AgentUnreachable("the answer was lost")

    world.toy.promote = promoted_and_gone

    run = world.recover()

    assert run.state is RunState.COMPENSATION_FAILED
    assert "point of no return" in run.error
    assert world.cluster.state is ClusterState.FAILING
    assert world.store.incidents.get(run.incident).state is IncidentState.ESCALATED


def test_a_lost_answer_of_a_promotion_that_happened_is_found_out():
    world = World()
    world.kill("pg1", agent=True)
    promote, lost = world.toy.promote, []

    def once_lost(node, setting, by, *, timeout_s=30.0):
        timeline = promote(node, setting, by)
        if not lost:
            lost.append(node)
            raise AgentUnreachable("the answer was lost")
        return timeline

    world.toy.promote = once_lost

    assert world.recover().state is RunState.SUCCEEDED
    assert world.toy.nodes[lost[0]].log.count("promoted") == 1


def test_a_balancer_that_is_away_does_not_keep_the_failover_from_going_on():
    world = World()
    world.kill("pg1", agent=True)
    world.haproxy.reachable = False
    paused = []

    def comes_back():
        paused.append(1)
        if len(paused) == 20:
            world.haproxy.reachable = True
            reconciler(world).balancers()
        world.world_goes_on()

    world.clock.on_pause = comes_back

    assert world.recover().state is RunState.SUCCEEDED


STEPS = [
    "open_epoch",
    "isolate_primary",
    "fence_primary",
    "revoke_standbys",
    "choose_candidate",
    "repoint_survivors",
    "promote_candidate",
    "route_writes",
    "commit_primary",
    "verify_service",
]


@pytest.mark.parametrize("point", ["claimed", "captured", "done", "settled"])
@pytest.mark.parametrize("step", STEPS)
def test_a_worker_that_dies_anywhere_changes_nothing_about_the_end(step, point):
    world = World()
    world.kill("pg1", agent=True)
    world.dies_at = f"do.{step}.{point}"

    run = world.recover()

    assert world.dies_at == ""
    assert run.state is RunState.SUCCEEDED, run.error
    promotions = [n.log.count("promoted") for n in world.toy.nodes.values()]
    assert sorted(promotions) == [0, 0, 1]
    assert len(world.writable()) == 1


@pytest.mark.parametrize("point", ["claimed", "done", "settled"])
@pytest.mark.parametrize("step", ["open_epoch", "isolate_primary", "fence_primary", "revoke_standbys"])
def test_a_worker_that_dies_while_undoing_changes_nothing_about_the_end(step, point):
    world = World()
    world.kill("pg1")
    world.toy.nodes["pg3"].agent = False
    world.dies_at = f"undo.{step}.{point}"

    run = world.recover()

    assert world.dies_at == ""
    assert run.state is RunState.ROLLED_BACK, run.error
    assert (world.cluster.primary, world.cluster.state) == ("pg1", ClusterState.STEADY)
    assert world.writable() == ["pg1"]


def failed_over():
    world = World()
    world.kill("pg1", agent=True)
    assert world.recover().state is RunState.SUCCEEDED
    world.toy.nodes["pg1"].agent = True
    return world


def test_the_old_primary_comes_back_as_a_standby_and_into_the_set():
    world = failed_over()
    new = world.cluster.primary

    run = world.recover("pg1", IncidentKind.STANDBY_DOWN)

    assert run.state is RunState.SUCCEEDED, run.error
    assert world.toy.checkpoints == 1
    assert world.toy.nodes["pg1"].upstream == new
    assert set(world.cluster.sets[0].members) == {"pg1", "pg2", "pg3"} - {new}
    assert world.toy.nodes[new].sync_setting == world.cluster.sets[0].setting()
    assert world.haproxy.states("pg_read")["pg1"] == "ready"
    assert world.store.incidents.get(run.incident).state is IncidentState.RESOLVED


def test_a_set_is_widened_by_the_joint_rule_in_an_epoch_of_its_own():
    world = failed_over()
    before = world.cluster
    seen = []
    set_sync = world.toy.set_sync

    def looked_at(node, setting, by, *, timeout_s=5.0):
        seen.append((world.cluster.sets, by.epoch))
        set_sync(node, setting, by)

    world.toy.set_sync = looked_at
    world.recover("pg1", IncidentKind.STANDBY_DOWN)

    sets, epoch = seen[0]
    assert len(sets) == 2
    assert epoch == before.epoch + 1
    assert any(line.startswith("end_walsenders") for line in world.toy.nodes[before.primary].log)


@pytest.mark.parametrize("point", ["claimed", "captured", "done", "settled"])
@pytest.mark.parametrize(
    "step", ["checkpoint_primary", "rejoin_node", "await_streaming", "widen_sync_set", "route_reads"]
)
def test_a_worker_that_dies_while_a_node_rejoins_changes_nothing_about_the_end(step, point):
    world = failed_over()
    world.dies_at = f"do.{step}.{point}"

    run = world.recover("pg1", IncidentKind.STANDBY_DOWN)

    assert world.dies_at == ""
    assert run.state is RunState.SUCCEEDED, run.error
    assert len(world.cluster.sets) == 1
    assert "pg1" in world.cluster.sets[0].members


def test_a_standby_that_only_stopped_does_not_change_the_set():
    world = World()
    world.kill("pg2")
    before = world.cluster

    run = world.recover("pg2", IncidentKind.STANDBY_DOWN)

    assert run.state is RunState.SUCCEEDED, run.error
    assert world.cluster == before


def test_a_late_command_of_an_earlier_epoch_is_refused_by_the_agents():
    world = World()
    world.kill("pg1", agent=True)
    world.recover()
    from ha_tasks.errors import StaleAuthority
    from ha_tasks.ports.host import Authority

    with pytest.raises(StaleAuthority):
        world.toy.follow("pg2", "pg1", Authority(epoch=1, fence=999))
