"""A planned switchover on a toy cluster: what it changes, what it refuses, what it puts back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ha_tasks.bootstrap.actions import POSTGRES
from ha_tasks.disaster_recovery.playbooks import load_playbooks
from ha_tasks.disaster_recovery.recovery_planner import RecoveryPlanner
from ha_tasks.errors import AgentUnreachable, PassingFailure, PoolerUnreachable, Refused, ServiceUnreachable
from ha_tasks.model.cluster import ClusterState, sync_set_of
from ha_tasks.model.incident import IncidentKind
from ha_tasks.model.platform import PoolerSettings
from ha_tasks.model.run import RunState
from ha_tasks.model.switchover import Transaction
from ha_tasks.workflows.guard_facts import GuardFactsGatherer
from ha_tasks.workflows.planned_work import Ordered, PlannedWork
from tests.fakes.pooler import FakePooler
from tests.unit.test_postgres_failover import SETTLED, Died, World, reconciler


class Planned(World):
    """The failover's world, with planned work in it."""

    def __init__(self, pooler=None):
        super().__init__()
        if pooler is not None:
            settings = PoolerSettings(addresses=("127.0.0.1:6432",), user="ha_pooler", database="app")
            self.service = replace(self.service, pooler=settings)
            self.platform.services["db"] = self.service
            self.tools = replace(self.tools, pooler=pooler)
        self.actions |= {name: kind(self.tools) for name, kind in POSTGRES.items()}
        self.work = PlannedWork(
            planner=RecoveryPlanner(self.platform, load_playbooks(())),
            guards=GuardFactsGatherer(platform=self.platform, sources=self.store, clock=self.clock),
            orchestrator=self.orchestrator,
            incidents=self.store.incidents,
            journal=self.store.journal,
            ledger=self.store.ledger,
            clock=self.clock,
        )

    def switch(self, node="pg2", kind=IncidentKind.SWITCHOVER_ORDERED):
        ordered = Ordered(
            kind=kind, service="db", instance=node, requested_by="ops", reason="test", key=f"{kind}-{node}"
        )
        run = self.work.begin(ordered, ())
        until = self.clock.now() + timedelta(minutes=30)
        while True:
            try:
                return self.orchestrator.drive(run.id, until)
            except Died:
                self.clock.advance(5)

    def roles(self):
        return {name: (node.primary, node.upstream) for name, node in self.toy.nodes.items()}


def test_a_standby_takes_over_and_the_old_primary_follows_it_without_a_rewind():
    world = Planned()
    for _ in range(5):
        world.toy.commit("pg1")

    run = world.switch("pg3")

    assert run.state is RunState.SUCCEEDED, run.error
    assert (world.cluster.primary, world.cluster.state) == ("pg3", ClusterState.STEADY)
    assert world.cluster.sets == (sync_set_of(["pg1", "pg2"]),)
    assert world.roles() == {"pg1": (False, "pg3"), "pg2": (False, "pg3"), "pg3": (True, None)}
    assert world.haproxy.states("pg_write") == {"pg1": "maint", "pg2": "maint", "pg3": "ready"}
    assert world.haproxy.states("pg_read") == {"pg1": "ready", "pg2": "ready", "pg3": "maint"}
    assert "rejoin" not in world.toy.nodes["pg1"].log
    assert "fence" not in world.toy.nodes["pg1"].log
    assert world.writable() == ["pg3"]


def test_the_way_back_is_the_same_order():
    world = Planned()
    world.switch("pg2")
    run = world.switch("pg1")

    assert run.state is RunState.SUCCEEDED, run.error
    assert world.cluster.primary == "pg1"
    assert world.cluster.sets == (sync_set_of(["pg2", "pg3"]),)


def test_nothing_is_begun_beside_an_open_incident():
    world = Planned()
    world.kill("pg3")
    world.store.incidents.open(
        key="db/pg3/standby_down",
        service="db",
        instance="pg3",
        kind=IncidentKind.STANDBY_DOWN,
        severity="warning",
        summary="pg3 is down",
        fault_at=world.clock.now(),
        now=world.clock.now(),
        actor="t",
        evidence={},
    )

    with pytest.raises(Refused, match="I-1 is open: pg3 is down; mend that first: ha-tasks incidents 1"):
        world.switch("pg2")
    assert world.store.journal.active() == ()


def test_a_primary_that_lets_nobody_in_is_quoted_and_nothing_is_guessed_of_others(
    monkeypatch,
):
    world, refusal = Planned(), ServiceUnreachable("pg1: FATAL: password authentication failed")

    def refuse(*_: object) -> None:
        raise refusal

    monkeypatch.setattr(world.toy, "streaming", refuse)

    run = world.switch("pg2")

    assert run.state is RunState.ROLLED_BACK
    assert f"pg1 cannot be asked ({refusal}); if it is down: ha-tasks recover db" in run.error
    assert "does not stream" not in run.error


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda toy: setattr(toy.nodes["pg2"], "upstream", "pg3"), "pg2 does not stream from pg1"),
        (lambda toy: setattr(toy.nodes["pg2"], "agent", False), "the agent of pg2 does not answer"),
        (lambda toy: setattr(toy.nodes["pg3"], "agent", False), "the agent of pg3 does not answer"),
        (lambda toy: setattr(toy.nodes["pg3"], "running", False), "pg3 does not stream from pg1"),
        (lambda toy: setattr(toy.nodes["pg1"], "agent", False), "the agent of pg1 does not answer"),
        (lambda toy: setattr(toy.nodes["pg2"], "lsn", -(2**25)), "bytes behind"),
        (
            lambda toy: toy.long.append(Transaction(pid=42, user="etl", application="load", age_s=61)),
            "pid 42 of etl (load), for 61 s",
        ),
    ],
)
def test_what_could_not_take_over_is_refused_before_anything_is_touched(spoil, why):
    world = Planned()
    spoil(world.toy)

    run = world.switch("pg2")

    assert run.state is RunState.ROLLED_BACK
    assert why in run.error
    assert (world.cluster.state, world.cluster.primary, world.cluster.epoch) == SETTLED
    assert [node.log for node in world.toy.nodes.values()] == [[], [], []]


def test_a_shutdown_that_takes_too_long_is_given_up_and_the_primary_goes_on():
    world = Planned()
    world.toy.nodes["pg1"].stop_hangs = True

    run = world.switch("pg2")

    assert run.state is RunState.ROLLED_BACK, run.error
    assert "pg1 did not shut down within" in run.error
    assert (world.cluster.primary, world.cluster.state) == ("pg1", ClusterState.STEADY)
    assert [n.timeline for n in world.toy.nodes.values()] == [1, 1, 1]
    assert world.haproxy.states("pg_write") == {"pg1": "ready", "pg2": "maint", "pg3": "maint"}
    assert world.writable() == ["pg1"]


def test_a_successor_that_lacks_the_last_record_is_not_promoted():
    world = Planned()
    stop = world.toy.stop

    def half_sent(node, by, **more):
        end = stop(node, by, **more)
        world.toy.nodes["pg2"].lsn = end.lsn
        return end

    world.toy.stop = half_sent
    run = world.switch("pg2")

    assert run.state is RunState.ROLLED_BACK, run.error
    assert "pg2 lacks the last record of pg1" in run.error
    assert world.cluster.primary == "pg1"
    assert world.roles()["pg1"] == (True, None)
    assert {world.toy.nodes[n].upstream for n in ("pg2", "pg3")} == {"pg1"}
    assert world.writable() == ["pg1"]


def test_an_old_primary_that_does_not_come_back_is_a_standby_that_is_down_and_no_failed_switchover():
    world = Planned()

    def away(node, upstream, by, **more):
        raise AgentUnreachable(f"the agent of {node} does not answer")

    world.toy.demote = away
    run = world.switch("pg2")

    assert run.state is RunState.SUCCEEDED, run.error
    assert world.cluster.sets == (sync_set_of(["pg3"]),)
    assert run.outputs["restore_redundancy"]["restored"] is False
    assert world.writable() == ["pg2"]


def test_of_two_nodes_the_old_primary_acknowledges_for_its_successor():
    world = Planned()
    world.kill("pg3", agent=True)
    world.toy.nodes["pg1"].sync_setting = "ANY 1 (pg2)"
    world.store.clusters.advance("db", 1, world.clock.now(), new_epoch=False, sets=(sync_set_of(["pg2"]),))

    run = world.switch("pg2")

    assert run.state is RunState.SUCCEEDED, run.error
    assert world.cluster.sets == (sync_set_of(["pg1"]),)
    assert world.writable() == ["pg2"]


def test_a_pooler_holds_its_clients_until_the_writes_have_somewhere_to_go():
    pooler, seen = FakePooler(), []
    world = Planned(pooler)
    stop, route = world.toy.stop, world.tools.router.route_writes
    world.toy.stop = lambda *a, **k: (seen.append(("stop", pooler.paused)), stop(*a, **k))[1]
    world.tools.router.route_writes = lambda *a, **k: (seen.append(("route", pooler.paused)), route(*a, **k))[
        1
    ]

    run = world.switch("pg2")

    assert run.state is RunState.SUCCEEDED, run.error
    assert seen[:2] == [("stop", True), ("route", True)]
    assert pooler.commands == ["pause", "reconnect", "resume"]
    assert not pooler.paused


def test_a_transaction_that_holds_up_the_pause_is_named_and_everything_goes_on():
    pooler = FakePooler()
    pooler.busy = True
    world = Planned(pooler)
    world.toy.long = [Transaction(pid=42, user="etl", application="load", age_s=6.0)]

    run = world.switch("pg2")

    assert run.state is RunState.ROLLED_BACK
    assert "still under way: pid 42 of etl (load), for 6 s" in run.error
    assert (world.cluster.primary, world.cluster.state) == ("pg1", ClusterState.STEADY)
    assert world.writable() == ["pg1"]
    assert "stop" not in world.toy.nodes["pg1"].log


def test_on_the_way_back_a_poolers_clients_go_on():
    pooler = FakePooler()
    world = Planned(pooler)
    world.toy.nodes["pg1"].stop_hangs = True

    run = world.switch("pg2")

    assert run.state is RunState.ROLLED_BACK, run.error
    assert pooler.commands == ["pause", "resume"]
    assert not pooler.paused


def test_a_failover_has_the_poolers_reconnect_and_does_not_depend_on_them():
    for reachable, said in ((True, "reconnected"), (False, "pgbouncer does not answer")):
        pooler = FakePooler()
        pooler.reachable = reachable
        world = Planned(pooler)
        world.kill("pg1", agent=True)

        run = world.recover()

        assert run.state is RunState.SUCCEEDED, run.error
        assert run.outputs["route_writes"]["pooler"] == said


def test_clients_that_an_ended_run_left_held_are_let_go_and_those_that_others_hold_are_not():
    pooler = FakePooler()
    world = Planned(pooler)
    service = world.platform.services["db"]
    pooler.paused = True  # by somebody else: no run of ours ever held anybody
    reconciler(world).clusters()
    by_others = pooler.paused
    pooler.paused = False

    def away(service):
        raise PoolerUnreachable("pgbouncer does not answer")

    resume, pooler.resume = pooler.resume, away
    run = world.switch("pg2")
    world.store.clusters.advance(
        "db",
        world.cluster.epoch,
        world.clock.now(),
        new_epoch=False,
        primary="pg2",
        state=ClusterState.STEADY,
        sets=(sync_set_of(["pg3"]),),
        unfinished=(),
    )
    held, pooler.resume = pooler.paused, resume
    reconciler(world).clusters()
    let_go = not pooler.paused
    pooler.paused = True  # long after it, by somebody else again
    world.clock.advance(3600)
    reconciler(world).clusters()

    assert by_others
    assert run.state is RunState.COMPENSATION_FAILED
    assert (held, let_go, pooler.is_paused(service)) == (True, True, True)


BOUNDARIES = [
    f"do.{step}.{point}"
    for step in (
        "check_switchover",
        "checkpoint_nodes",
        "open_epoch",
        "pause_pooler",
        "isolate_primary",
        "stop_primary",
        "revoke_standbys",
        "choose_successor",
        "repoint_survivors",
        "promote_candidate",
        "route_writes",
        "resume_pooler",
        "demote_primary",
        "commit_primary",
        "restore_redundancy",
        "verify_service",
    )
    for point in ("claimed", "captured", "applied", "settled")
]


@pytest.mark.parametrize("point", BOUNDARIES)
def test_an_executor_that_dies_anywhere_changes_nothing_about_the_end(point):
    world = Planned()
    world.dies_at = point

    run = world.switch("pg2")

    assert world.dies_at == "", "the point was never reached"
    assert run.state is RunState.SUCCEEDED, run.error
    assert (world.cluster.primary, world.cluster.state) == ("pg2", ClusterState.STEADY)
    assert world.cluster.sets == (sync_set_of(["pg1", "pg3"]),)
    assert world.toy.nodes["pg2"].log.count("promoted") == 1
    assert world.writable() == ["pg2"]


@pytest.mark.parametrize("point", ["claimed", "done", "settled"])
@pytest.mark.parametrize("step", ["revoke_standbys", "stop_primary", "isolate_primary", "open_epoch"])
def test_an_executor_that_dies_on_the_way_back_still_ends_with_the_old_primary(step, point):
    world = Planned()

    def lost(node, by, **more):
        raise PassingFailure("nobody is there")

    world.toy.revoke = lost
    world.dies_at = f"undo.{step}.{point}"

    run = world.switch("pg2")

    assert world.dies_at == "", "the point was never reached"
    assert run.state is RunState.ROLLED_BACK, run.error
    assert (world.cluster.primary, world.cluster.state) == ("pg1", ClusterState.STEADY)
    assert world.writable() == ["pg1"]


def test_a_run_that_nobody_ends_is_called_off_by_whoever_keeps_things_as_recorded():
    """Aborted by the stop switch between two steps: the primary is down, the cluster undecided."""
    world = Planned()
    by = world.tools.clusters.advance("db", 1, world.clock.now(), new_epoch=True, state=ClusterState.FAILING)
    world.toy.nodes["pg1"].running = False

    reconciler(world).clusters()
    world.world_goes_on()
    reconciler(world).clusters()

    assert by.epoch == 2
    assert (world.cluster.primary, world.cluster.state) == ("pg1", ClusterState.STEADY)


def test_a_standby_is_restarted_out_of_the_reads_and_comes_back():
    world = Planned()
    run = world.switch("pg3", IncidentKind.RESTART_ORDERED)

    assert run.state is RunState.SUCCEEDED, run.error
    assert len(world.toy.nodes["pg3"].restarts) == 1
    assert world.haproxy.states("pg_read") == {"pg1": "maint", "pg2": "ready", "pg3": "ready"}
    assert (world.cluster.state, world.cluster.primary, world.cluster.epoch) == SETTLED


def test_a_standby_is_not_restarted_while_another_one_is_away():
    world = Planned()
    world.toy.nodes["pg2"].running = False

    run = world.switch("pg3", IncidentKind.RESTART_ORDERED)

    assert run.state is RunState.ROLLED_BACK
    assert "pg2 does not stream from pg1; bring it back first" in run.error
    assert world.toy.nodes["pg3"].restarts == []


def test_the_primary_is_not_restarted_as_if_it_were_a_standby():
    world = Planned()
    run = world.switch("pg1", IncidentKind.RESTART_ORDERED)

    assert run.state is RunState.ROLLED_BACK
    assert "pg1 is the primary; it is restarted by a switchover: ha-tasks switchover db" in run.error
