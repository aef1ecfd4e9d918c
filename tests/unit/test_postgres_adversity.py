"""A failover that meets what it should not: the remains of another, a late executor, a host half gone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ha_tasks.bootstrap.actions import LONG_STEP_LIMIT_S, LONG_STEPS, STEP_LIMIT_S
from ha_tasks.disaster_recovery.playbooks import load_playbooks
from ha_tasks.errors import (
    ActionFailed,
    AgentUnreachable,
    BalancerError,
    PassingFailure,
    StaleEpoch,
    VerificationFailed,
)
from ha_tasks.model.cluster import ClusterState, Unfinished, sync_set_of
from ha_tasks.model.incident import IncidentKind, IncidentState
from ha_tasks.model.playbook import VerifySettings
from ha_tasks.model.run import RunState
from ha_tasks.names import ActionName
from ha_tasks.ports.action import StepContext
from ha_tasks.workflows.actions import postgres
from tests.unit.test_postgres_failover import Died, World, failed_over, reconciler


def context(world, *, fence=1, outputs=None, captured=None, incident=None):
    """Of a step that is called alone: no run is behind it, so its warrant is not asked for."""
    world.store.clusters.journal = None
    return StepContext(
        run=1,
        step=1,
        key="run-1-step-1",
        service=world.service,
        incident=incident,
        args={},
        captured=captured or {},
        outputs=outputs or {},
        fence=fence,
        verify=VerifySettings(),
        remaining_s=lambda: 10.0,
        lost=lambda: False,
    )


def half_promoted(service=None):
    """pg2 was promoted, and took rows; nobody recorded it, and its agent is back."""
    world = World(service)
    world.kill("pg1", agent=True)
    promote = world.toy.promote

    def promoted_and_gone(node, setting, by, *, timeout_s=30.0):
        promote(node, setting, by)
        raise AgentUnreachable("the answer was lost")

    world.toy.promote = promoted_and_gone
    world.toy.status = lambda node, *, timeout_s=0.5: (_ for _ in ()).throw(AgentUnreachable(node))
    run = world.recover()
    assert run.state is RunState.COMPENSATION_FAILED
    del world.toy.promote, world.toy.status
    world.store.incidents.acknowledge(run.incident, world.clock.now(), "a person")
    assert world.toy.commit("pg2")
    return world


# --- what an earlier failover left ---


def test_a_failover_that_another_left_half_done_is_brought_to_its_end():
    world = half_promoted()

    assert world.recover().state is RunState.SUCCEEDED
    assert (world.cluster.primary, world.cluster.unfinished) == ("pg2", ())
    assert world.writable() == ["pg2"]


def test_while_a_candidate_may_have_been_promoted_the_way_back_is_closed():
    """What pg2 acknowledged would be lost behind a pg1 that was started again."""
    world = half_promoted()
    world.toy.nodes["pg1"].agent = True
    world.toy.nodes["pg3"].agent = False

    run = world.recover()

    assert run.state is RunState.COMPENSATION_FAILED
    assert "pg2 may have been promoted" in run.error
    assert world.cluster.state is ClusterState.FAILING
    assert not world.toy.nodes["pg1"].running
    assert world.toy.nodes["pg3"].upstream == "pg2"


@pytest.mark.parametrize(("marked", "ends"), [(None, "rolled_back"), (2, "compensation_failed")])
def test_an_old_candidate_is_struck_out_once_its_agent_says_that_nothing_was_begun(marked, ends):
    """It was silent when it was to be struck out; later too few confirm, and the way back is open again."""
    world = World()
    world.kill("pg1")
    entry = Unfinished(epoch=2, candidate="pg2", sync_set=sync_set_of(["pg3"]))
    now, failing = world.clock.now(), ClusterState.FAILING
    world.store.clusters.advance("db", 1, now, new_epoch=True, state=failing, unfinished=[entry])
    world.toy.nodes["pg2"].promotion_begun = marked
    world.toy.nodes["pg3"].agent = False

    assert world.recover().state is RunState(ends)
    assert (world.cluster.state is ClusterState.STEADY) == (marked is None)
    assert bool(world.cluster.unfinished) == (marked is not None)


def test_the_reconciler_leaves_a_half_done_failover_alone():
    world = half_promoted()

    reconciler(world).clusters()

    assert world.cluster.state is ClusterState.FAILING
    assert world.toy.nodes["pg3"].upstream == "pg2"


def test_of_equals_the_one_that_bears_the_mark_is_promoted():
    """It began a promotion once, so it cannot be pointed to another."""
    world = World()
    world.toy.nodes["pg3"].promotion_begun = 1
    entry = Unfinished(epoch=1, candidate="pg3", sync_set=sync_set_of(["pg2"]))
    world.store.clusters.advance("db", 1, world.clock.now(), new_epoch=False, unfinished=[entry])
    world.kill("pg1", agent=True)

    run = world.recover()

    assert run.state is RunState.SUCCEEDED, run.error
    assert world.cluster.primary == "pg3"


# --- late executors ---


def test_who_slept_through_an_epoch_does_not_speak_for_the_next():
    world = World()
    world.store.clusters.advance("db", 1, world.clock.now(), new_epoch=True, state=ClusterState.FAILING)
    action = postgres.PromoteCandidate(world.tools)
    outputs = {
        "open_epoch": {"epoch": 2},
        "choose_candidate": {"candidate": "pg2", "survivors": ["pg3"]},
    }
    get, looks = world.store.clusters.get, []

    def moved_on_after_the_first_look(name):
        found = get(name)
        if not looks:
            world.store.clusters.advance("db", 2, world.clock.now(), new_epoch=True)
        looks.append(found)
        return found

    world.store.clusters.get = moved_on_after_the_first_look
    action.do(context(world, outputs=outputs))

    assert world.toy.nodes["pg2"].epoch == (2, 1)


@pytest.mark.parametrize("action", [postgres.RevokeStandbys, postgres.OpenEpoch])
def test_a_late_undo_does_not_call_off_the_next_failover(action):
    world = World()
    advance = world.store.clusters.advance
    for epoch, state in ((1, "failing"), (2, "blocked"), (3, "failing")):
        advance("db", epoch, world.clock.now(), new_epoch=True, state=ClusterState(state))

    action(world.tools).undo(context(world, outputs={"open_epoch": {"epoch": 2}}, captured={"epoch": 1}))

    assert (world.cluster.epoch, world.cluster.state) == (4, ClusterState.FAILING)
    assert world.toy.nodes["pg2"].log == []


def test_a_late_undo_does_not_strike_out_what_another_wrote_meanwhile():
    world = World()
    advance = world.store.clusters.advance
    advance("db", 1, world.clock.now(), new_epoch=True, state=ClusterState.FAILING)
    entry = Unfinished(epoch=2, candidate="pg2", sync_set=sync_set_of(["pg3"]))
    get = world.store.clusters.get

    def written_after_the_look(name):
        found = get(name)
        advance("db", 2, world.clock.now(), new_epoch=False, unfinished=[entry])
        return found

    world.store.clusters.get = written_after_the_look
    postgres.ChooseCandidate(world.tools).undo(context(world, outputs={"open_epoch": {"epoch": 1}}))

    assert get("db").unfinished == (entry,)


def test_an_epoch_is_opened_only_against_the_primary_that_failed():
    """The incident is old: meanwhile another node leads, and it is well."""
    world = failed_over()
    incident = world.store.incidents.recent(1)[0]
    epoch = world.cluster.epoch

    with pytest.raises(StaleEpoch, match="pg1 failed, but pg2 is the primary now"):
        postgres.OpenEpoch(world.tools).do(context(world, captured={"epoch": epoch}, incident=incident))


def test_an_undo_of_a_step_that_died_before_it_looked_changes_nothing():
    world = World()

    for action in (postgres.OpenEpoch, postgres.IsolatePrimary):
        action(world.tools).undo(context(world))

    assert (world.cluster.epoch, world.cluster.state) == (1, ClusterState.STEADY)


# --- hosts and balancers that are half gone ---


def test_a_primary_that_cannot_be_killed_is_failed_over_all_the_same():
    """Its processes hang in a dead disk. The revocation is the fence, the kill only comes in addition."""
    world = World()

    def stuck(node, by, *, timeout_s=5.0):
        raise PassingFailure("processes do not die")

    world.toy.fence = stuck

    assert world.recover().state is RunState.SUCCEEDED


def test_a_primary_that_does_not_start_again_does_not_keep_the_rest_from_being_undone():
    """Its disk is full. When there is room again it is started, and the cluster is steady."""
    world = World()
    world.kill("pg1")
    world.toy.nodes["pg3"].agent = False
    start = world.toy.start_primary

    def full(node, setting, by, *, timeout_s=30.0):
        raise ActionFailed("PostgreSQL of pg1 did not start: no space left on device")

    world.toy.start_primary = full
    assert world.recover().state is RunState.ROLLED_BACK
    assert world.cluster.state is ClusterState.BLOCKED

    world.toy.start_primary = start
    for _ in range(2):
        reconciler(world).clusters()
        world.world_goes_on()
    assert world.writable() == ["pg1"]
    assert world.cluster.state is ClusterState.STEADY


def test_a_balancer_that_refuses_does_not_keep_a_cluster_without_a_primary():
    world = World()
    world.kill("pg1", agent=True)
    want = world.tools.balancer.want

    def refuses(changes, reason, *, shut_sessions=False, under=None):
        want(changes, reason, shut_sessions=shut_sessions, under=under)
        raise BalancerError("edge-2: No such server.")

    world.tools.balancer.want = refuses

    assert world.recover().state is RunState.SUCCEEDED


def test_a_balancer_that_is_away_does_not_keep_a_failover_from_being_undone():
    world = World()
    world.kill("pg1")
    world.toy.nodes["pg3"].agent = False
    world.haproxy.reachable = False

    assert world.recover().state is RunState.ROLLED_BACK
    world.haproxy.reachable = True
    reconciler(world).balancers()
    world.world_goes_on()
    reconciler(world).clusters()
    assert world.cluster.state is ClusterState.STEADY


def test_a_standby_that_is_slow_to_confirm_gets_a_second_chance():
    world = World()
    world.kill("pg1", agent=True)
    revoke, asked = world.toy.revoke, []

    def slow_at_first(node, by, *, timeout_s=5.0):
        asked.append(node)
        if asked.count(node) == 1 and node == "pg3":
            raise PassingFailure("not in time: pg3 has replayed the WAL on its disk")
        return revoke(node, by)

    world.toy.revoke = slow_at_first

    assert world.recover().state is RunState.SUCCEEDED


def test_a_failover_that_was_stopped_half_way_is_undone_once_automation_is_on_again():
    """The primary never died, and its standbys were cut off: nothing else would ever lift that."""
    world = World()
    world.toy.nodes["pg1"].agent = False
    stopped = []
    world.orchestrator._stopped = lambda _: bool(stopped)
    revoke = world.toy.revoke

    def then_a_person_steps_in(node, by, *, timeout_s=5.0):
        stopped.append("a person")
        return revoke(node, by)

    world.toy.revoke = then_a_person_steps_in
    run = world.recover()
    assert run.state is RunState.ABORTED
    assert world.writable() == []

    reconciler(world, stopped=lambda service: service == "db").clusters()
    assert world.cluster.state is ClusterState.FAILING

    for _ in range(2):
        reconciler(world).clusters()
        world.world_goes_on()
    assert world.cluster.state is ClusterState.STEADY
    assert world.writable() == ["pg1"]
    assert {n: world.toy.nodes[n].upstream for n in ("pg2", "pg3")} == {"pg2": "pg1", "pg3": "pg1"}


def test_the_reconciler_does_not_call_off_a_failover_that_has_just_begun():
    """It looked for runs before this one was made, and at the cluster after it had opened its epoch."""
    world = World()
    world.kill("pg1", agent=True)
    active, got = world.store.journal.active, []
    action = world.actions[ActionName.OPEN_EPOCH]
    opened = action.do

    def then_the_reconciler_looks(ctx):
        output = opened(ctx)
        answers = iter([()])
        world.store.journal.active = lambda: next(answers, None) or active()
        reconciler(world).clusters()
        world.store.journal.active = active
        got.append(world.cluster.state)
        return output

    action.do = then_the_reconciler_looks

    assert world.recover().state is RunState.SUCCEEDED
    assert got == [ClusterState.FAILING]


def test_a_cluster_that_is_in_trouble_does_not_keep_the_reconciler_from_the_next():
    world = World()
    world.platform.services["aside"] = replace(world.service, name="aside")
    now = world.clock.now()
    blocked = replace(world.cluster, state=ClusterState.BLOCKED)
    world.store.clusters.register(replace(blocked, name="aside"), now)
    world.store.clusters.advance("db", 1, now, new_epoch=False, state=ClusterState.BLOCKED)
    write = world.toy.write_canary

    def no_right(service, entry, token, timeout_s):
        if service.name == "db":
            raise ActionFailed("permission denied for database app")
        return write(service, entry, token, timeout_s)

    world.toy.write_canary = no_right
    world.toy.nodes["pg1"].running = False
    with pytest.raises(ActionFailed):
        reconciler(world).clusters()

    assert world.toy.nodes["pg1"].running
    assert world.store.clusters.get("aside").state is ClusterState.STEADY


# --- coming back ---


def test_after_a_power_cut_everywhere_the_cluster_comes_back():
    """Nobody may be promoted, the primary is started, and it can take no write before a standby is back."""
    world = World()
    for node in ("pg1", "pg2", "pg3"):
        world.kill(node)

    assert world.recover().state is RunState.ROLLED_BACK
    assert world.cluster.state is ClusterState.BLOCKED
    assert world.toy.nodes["pg1"].running

    run = world.recover("pg2", IncidentKind.STANDBY_DOWN)
    assert run.state is RunState.SUCCEEDED, run.error
    reconciler(world).clusters()
    assert world.cluster.state is ClusterState.STEADY


def test_nobody_rejoins_while_a_candidate_may_be_a_primary():
    """It would be rewound behind the recorded primary, with what it acknowledged."""
    world = half_promoted()
    world.store.clusters.advance(
        "db", world.cluster.epoch, world.clock.now(), new_epoch=False, state=ClusterState.BLOCKED
    )
    world.toy.nodes["pg1"].running = True

    run = world.recover("pg2", IncidentKind.STANDBY_DOWN)

    assert run.state is RunState.ROLLED_BACK
    assert "rejoin" not in world.toy.nodes["pg2"].log


def test_a_node_of_a_cluster_that_is_not_in_care_is_an_error_that_says_so():
    world = World()
    world.store.clusters.clusters.clear()

    run = world.recover("pg2", IncidentKind.STANDBY_DOWN)

    assert run.state is RunState.ROLLED_BACK
    assert "ha-tasks adopt db" in run.error


@pytest.mark.parametrize("line", ["advance", "set_sync", "end_walsenders", "flush_lsn", "advance 2"])
def test_a_set_that_is_being_widened_ends_as_one_set_wherever_its_executor_dies(line):
    """Death between any two lines; the second try ends with one set, in an epoch of its own."""
    world = failed_over()
    primary = world.cluster.primary
    other = next(n for n in ("pg2", "pg3") if n != primary)
    calls = []

    def dying(owner, name, at_call):
        real = getattr(owner, name)

        def call(*args, **more):
            calls.append(name)
            if calls.count(name) == at_call:
                setattr(owner, name, real)
                raise Died
            return real(*args, **more)

        setattr(owner, name, call)

    if line.startswith("advance"):
        dying(world.store.clusters, "advance", 2 if line == "advance 2" else 1)
    elif line == "flush_lsn":
        dying(world.toy, "flush_lsn", 2)  # the first is await_streaming's
    else:
        dying(world.toy, line, 1)

    run = world.recover("pg1", IncidentKind.STANDBY_DOWN)

    assert run.state is RunState.SUCCEEDED, run.error
    assert world.cluster.sets == (sync_set_of(["pg1", other]),)


def test_no_step_is_given_more_time_than_its_task():
    for playbook in load_playbooks(()):
        for step in playbook.steps:
            limit_s = LONG_STEP_LIMIT_S if step.action in LONG_STEPS else STEP_LIMIT_S
            assert step.timeout_s <= limit_s - 5, (playbook.name, step.id)


def test_a_run_that_is_told_late_does_not_move_its_incident_back():
    world = World()
    world.kill("pg1", agent=True)
    run = world.recover()
    incident = world.store.incidents.get(run.incident)
    assert incident.state is IncidentState.MITIGATED

    get = world.store.incidents.get
    old = replace(incident, state=IncidentState.RECOVERING)
    world.store.incidents.get = lambda number: old
    world.follower.follow(replace(run, state=RunState.VERIFYING, ended_at=None))

    assert get(run.incident).state is IncidentState.MITIGATED


def test_a_way_back_that_is_closed_says_for_whom():
    world = half_promoted()

    with pytest.raises(VerificationFailed, match="pg2 may have been promoted"):
        postgres.FencePrimary(world.tools).undo(context(world))
