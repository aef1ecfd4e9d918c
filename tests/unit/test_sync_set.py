"""A standby that falls silent leaves the synchronous set, by the joint rule, and comes back the same way."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ha_tasks.cli.runs import where
from ha_tasks.errors import AgentUnreachable
from ha_tasks.model.cluster import ClusterState, SyncSet, promotion_is_safe, sync_set_of
from ha_tasks.model.guards import Guard
from ha_tasks.model.incident import IncidentKind, IncidentState
from ha_tasks.model.platform import DataPolicy
from ha_tasks.model.run import RunState
from ha_tasks.model.unproved import standing
from ha_tasks.ports.host import Authority
from tests.unit import test_detection as detection
from tests.unit.builders import database
from tests.unit.test_postgres_failover import Died, World, failed_over, reconciler

SILENT = IncidentKind.SYNC_MEMBER_SILENT
BOTH, ALONE = sync_set_of(["pg2", "pg3"]), sync_set_of(["pg3"])
NOBODY = SyncSet(quorum=0, members=())


def of_policy(world, policy):
    world.service = replace(world.service, postgres=replace(world.service.postgres, policy=policy))
    world.platform.services["db"] = world.service
    return world


def without_standby(world, *nodes):
    for node in nodes:
        world.kill(node, agent=True)
    return world


def test_a_silent_standby_leaves_the_set_in_an_epoch_of_its_own():
    world = without_standby(World(), "pg2")

    run = world.recover("pg2", SILENT)

    assert run.state is RunState.SUCCEEDED, run.error
    assert world.cluster.sets == (ALONE,)
    assert world.cluster.epoch == 2
    assert world.toy.nodes["pg1"].sync_setting == "ANY 1 (pg3)"
    assert promotion_is_safe(world.cluster.sets, {"pg3"})


def test_the_wal_senders_of_both_sets_are_ended_while_both_are_recorded():
    """The one that goes, too: it has read the old set, and could release a commit by it."""
    world = without_standby(World(), "pg2")
    seen = []
    ended = world.toy.end_walsenders

    def looked_at(service, primary, names):
        seen.append((set(names), world.cluster.sets, world.toy.nodes["pg1"].sync_setting))
        ended(service, primary, names)

    world.toy.end_walsenders = looked_at
    world.recover("pg2", SILENT)

    assert seen == [({"pg2", "pg3"}, (BOTH, ALONE), "ANY 1 (pg3)")]


def test_one_that_receives_again_stays():
    world = World()
    before = world.cluster

    run = world.recover("pg2", SILENT)

    assert run.steps[0].output["kept"] == "pg2 receives again"
    assert world.cluster == before


@pytest.mark.parametrize("policy", DataPolicy)
def test_the_last_member_leaves_only_where_availability_was_chosen(policy):
    world = without_standby(of_policy(World(), policy), "pg2", "pg3")

    run = world.recover("pg2", SILENT)

    if policy is DataPolicy.DURABILITY:
        assert run.state is RunState.ROLLED_BACK
        assert "policy durability lets commits wait" in run.error
        assert world.cluster.sets == (BOTH,)
    else:
        assert run.state is RunState.SUCCEEDED, run.error
        assert run.steps[0].output["set"] == "nobody: RPO > 0"
        assert world.cluster.sets == (NOBODY,)
        assert not promotion_is_safe(world.cluster.sets, {"pg2", "pg3"})


def test_from_an_empty_set_a_standby_comes_back_by_the_joint_rule():
    world = without_standby(of_policy(World(), DataPolicy.AVAILABILITY), "pg2", "pg3")
    world.recover("pg2", SILENT)
    world.toy.nodes["pg3"].agent = True

    run = world.recover("pg3", IncidentKind.STANDBY_DOWN)

    assert run.state is RunState.SUCCEEDED, run.error
    assert world.cluster.sets == (ALONE,)


@pytest.mark.parametrize("point", ["claimed", "captured", "applied", "done", "settled"])
def test_a_worker_that_dies_while_the_set_is_narrowed_changes_nothing_about_the_end(point):
    world = without_standby(World(), "pg2")
    world.dies_at = f"do.narrow_sync_set.{point}"

    run = world.recover("pg2", SILENT)

    assert world.dies_at == ""
    assert run.state is RunState.SUCCEEDED, run.error
    assert world.cluster.sets == (ALONE,)


def test_a_change_that_is_resumed_has_an_epoch_of_its_own_again():
    world = without_standby(World(), "pg2")
    world.store.clusters.advance("db", 1, world.clock.now(), new_epoch=True, sets=(BOTH, ALONE))

    run = world.recover("pg2", SILENT)

    assert run.state is RunState.SUCCEEDED, run.error
    assert (world.cluster.epoch, world.cluster.sets) == (3, (ALONE,))


def test_while_a_rejoin_takes_long_its_node_leaves_the_set_and_comes_back_into_it():
    world = World()
    world.kill("pg2")
    rejoin, sets = world.toy.rejoin, []

    def takes_half_a_minute(node, upstream, by, job, *, timeout_s=120.0):
        sets.append(world.cluster.sets)
        if len(sets) < 15:
            world.clock.advance(timeout_s)
            raise AgentUnreachable(f"job {job} on {node} is still running")
        return rejoin(node, upstream, by, job)

    world.toy.rejoin = takes_half_a_minute
    run = world.recover("pg2", IncidentKind.STANDBY_DOWN)

    assert run.state is RunState.SUCCEEDED, run.error
    assert sets[4] == (BOTH,)
    assert sets[-1] == (ALONE,)
    assert world.cluster.sets == (BOTH,)


def test_how_far_a_long_rejoin_is_stands_in_the_run_and_whoever_looks_sees_it():
    world = World()
    world.kill("pg2")
    rejoin, status, seen = world.toy.rejoin, world.toy.status, []

    def takes_four_looks(node, upstream, by, job, *, timeout_s=120.0):
        (run,) = world.store.journal.active()
        seen.append(where(run))
        job_is = {"id": job, "progress": {"doing": "a copy", "done_bytes": len(seen), "of_bytes": 4}}
        world.toy.status = lambda node, **more: replace(status(node, **more), job=job_is)
        if len(seen) < 4:
            world.clock.advance(timeout_s)
            raise AgentUnreachable(f"job {job} on {node} is still running")
        return rejoin(node, upstream, by, job)

    world.toy.rejoin = takes_four_looks
    run = world.recover("pg2", IncidentKind.STANDBY_DOWN)

    assert seen[0].endswith("at step 2 of 6 rejoin_node by h/test/1")
    assert [s.partition(": ")[2] for s in seen[1:]] == [
        f"a copy, {percent} % ({n} B of 4 B)" for n, percent in ((1, 25), (2, 50), (3, 75))
    ]
    assert run.step(2).output == {"method": "rewind", "kept": ""}


def test_what_another_job_says_or_a_silent_agent_does_not_say_is_no_progress():
    world = World()
    world.kill("pg2")
    rejoin, status, seen = world.toy.rejoin, world.toy.status, []

    def takes_three_looks(node, upstream, by, job, *, timeout_s=120.0):
        (run,) = world.store.journal.active()
        seen.append(run.step(2).output)
        job_is = {"id": "another", "progress": {"doing": "a copy"}}
        world.toy.status = lambda node, **more: replace(status(node, **more), job=job_is)
        if len(seen) == 2:
            world.toy.nodes[node].agent = False
        if len(seen) < 3:
            world.clock.advance(timeout_s)
            raise AgentUnreachable(f"job {job} on {node} is still running")
        world.toy.nodes[node].agent = True
        return rejoin(node, upstream, by, job)

    world.toy.rejoin = takes_three_looks
    run = world.recover("pg2", IncidentKind.STANDBY_DOWN)

    assert run.state is RunState.SUCCEEDED, run.error
    assert seen == [{}, {}, {}]


def test_an_agent_that_is_silent_from_the_start_is_not_waited_for():
    world = failed_over()
    world.toy.nodes["pg1"].agent = False
    before = world.clock.monotonic()

    run = world.recover("pg1", IncidentKind.STANDBY_DOWN)

    assert run.state is RunState.ROLLED_BACK
    assert world.clock.monotonic() - before < 60


# Edited by hand.


def edits_of(world):
    return sum(s.value for s in world.store.ledger.series() if s.name == "ha_sync_set_edited_total")


def test_a_set_that_was_edited_by_hand_is_put_back_and_never_made_the_truth():
    world = World()
    before = world.cluster
    world.toy.nodes["pg1"].sync_setting = "ANY 1 (pg2, pg3, elsewhere)"

    reconciler(world).clusters()

    assert world.toy.nodes["pg1"].sync_setting == BOTH.setting()
    assert world.toy.nodes["pg1"].log[-1] == "end_walsenders pg2, pg3"
    assert world.cluster == before
    assert edits_of(world) == 1

    reconciler(world).clusters()
    assert edits_of(world) == 1


@pytest.mark.parametrize("verb", ["set_sync", "end_walsenders"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_whoever_takes_over_a_putting_back_ends_the_wal_senders_too(verb, when):
    """The server shows the right set by then, and a WAL sender may still judge by the edited one."""
    world = World()
    before = world.cluster
    world.toy.nodes["pg1"].sync_setting = "ANY 1 (pg2, pg3, elsewhere)"
    does = getattr(world.toy, verb)

    def dies(*args, **more):
        if when == "after":
            does(*args, **more)
        raise Died

    setattr(world.toy, verb, dies)
    with pytest.raises(Died):
        reconciler(world).clusters()
    setattr(world.toy, verb, does)
    assert standing((), world.cluster), "until it has ended a failover would prove nothing"

    world.toy.nodes["pg1"].log.clear()
    reconciler(world).clusters()
    assert world.toy.nodes["pg1"].sync_setting == BOTH.setting()
    assert world.toy.nodes["pg1"].log[-1] == "end_walsenders pg2, pg3"
    assert world.cluster == before
    assert not standing((), world.cluster)


def test_a_failover_that_began_meanwhile_is_not_told_another_set():
    world = World()
    world.toy.nodes["pg1"].sync_setting = "ANY 1 (elsewhere)"
    set_sync = world.toy.set_sync

    def then_it_begins(*args, **more):
        set_sync(*args, **more)
        now = world.clock.now()
        world.store.clusters.advance("db", 1, now, new_epoch=True, state=ClusterState.FAILING)

    world.toy.set_sync = then_it_begins
    reconciler(world).clusters()

    assert (world.cluster.epoch, world.cluster.sets) == (2, (BOTH, BOTH))
    for revoked in ({"pg2"}, {"pg3"}, {"pg2", "pg3"}):
        assert promotion_is_safe(world.cluster.sets, revoked) == promotion_is_safe([BOTH], revoked)


def test_while_two_sets_are_recorded_the_reconciler_sets_neither():
    world = World()
    world.store.clusters.advance("db", 1, world.clock.now(), new_epoch=True, sets=(BOTH, ALONE))
    world.toy.nodes["pg1"].sync_setting = ALONE.setting()

    reconciler(world).clusters()

    assert world.toy.nodes["pg1"].sync_setting == ALONE.setting()


def test_who_has_switched_automation_off_may_edit_it():
    world = World()
    world.toy.nodes["pg1"].sync_setting = ""

    reconciler(world, stopped=lambda _: True).clusters()

    assert world.toy.nodes["pg1"].sync_setting == ""


def test_a_later_epoch_is_not_set_back_by_whoever_looked_before_it():
    world = World()
    read = world.toy.sync_setting

    def then_a_change_begins(service, primary):
        world.store.clusters.advance("db", 1, world.clock.now(), new_epoch=True, sets=(BOTH, ALONE))
        world.toy.set_sync("pg1", ALONE.setting(), Authority(epoch=2, fence=1))
        return read(service, primary)

    world.toy.sync_setting = then_a_change_begins
    reconciler(world).clusters()

    assert world.toy.nodes["pg1"].sync_setting == ALONE.setting()


# From what the observers see.


def watched(feeds=("pg2", "pg3"), service=None):
    world = detection.World(service or database())
    world.cluster()
    for node in ("pg2", "pg3"):
        world.health.facts[node] = {
            "in_recovery": True,
            "receiving": True,
            "agent": {"postmaster": "running"},
        }
    feed(world, feeds)
    return world


def feed(world, names):
    world.health.facts["pg1"] = {"in_recovery": False, "standbys": list(names), "agent": None}


def of_kind(world):
    return [i for i in world.incidents if i.kind is SILENT]


def test_a_member_that_gets_nothing_for_ten_seconds_is_taken_out():
    world = watched()
    world.rounds(30)
    feed(world, ["pg3"])
    world.rounds(19)
    assert of_kind(world) == []

    world.rounds(3)

    (incident,) = of_kind(world)
    assert (incident.instance, incident.state) == ("pg2", IncidentState.RECOVERING)
    assert incident.fault_at <= world.clock.now() - timedelta(seconds=10)
    (run,) = world.store.journal.recent()
    assert run.plan.playbook == "postgres-narrow-set"


def test_where_nobody_would_be_left_it_is_said_loudly_and_nothing_is_changed():
    world = watched()
    feed(world, [])
    world.rounds(24)

    incidents = of_kind(world)
    assert {i.instance for i in incidents} == {"pg2", "pg3"}
    assert {i.state for i in incidents} == {IncidentState.BLOCKED}
    assert {i.severity for i in incidents} == {"critical"}
    assert Guard.DURABILITY in world.store.incidents.timeline(incidents[0].id)[-1].text
    assert world.store.journal.recent() == ()


def test_it_is_over_when_the_member_receives_again():
    world = watched()
    feed(world, [])
    world.rounds(24)

    feed(world, ["pg2", "pg3"])
    world.rounds(2)

    assert {i.state for i in of_kind(world)} == {IncidentState.RESOLVED}


def test_while_a_failover_is_under_way_nobody_is_taken_out():
    world = watched([])
    world.store.clusters.advance("db", 1, world.clock.now(), new_epoch=True, state=ClusterState.FAILING)
    world.rounds(24)

    assert of_kind(world) == []


# A failover does not wait for what is done about a standby.


def rejoining():
    """pg2 is down and being rejoined, by an executor that is at it, when pg1 dies."""
    world = watched()
    world.rounds(4)
    world.health.kinds["pg2"] = detection.REFUSED
    world.rounds(4)
    (run,) = world.store.journal.active()
    assert run.plan.playbook == "postgres-rejoin"
    taken = world.store.journal.claim(run.id, 1, run.phase, owner="w", now=world.clock.now(), lease_s=300)
    assert taken is not None
    return world, taken


def test_a_rejoin_that_runs_gives_way_to_a_failover():
    world, taken = rejoining()

    world.health.kinds["pg1"] = detection.REFUSED
    world.rounds(3)

    (failover,) = world.store.journal.active()
    assert failover.plan.playbook == "postgres-failover"
    ended = world.store.journal.get(taken.id)
    assert (ended.state, ended.lease_owner) == (RunState.ABORTED, None)
    assert ended.error.startswith("gave way to the failover of I-")
    standby = next(i for i in world.incidents if i.kind is IncidentKind.STANDBY_DOWN)
    assert standby.state in (IncidentState.OPEN, IncidentState.SUPPRESSED, IncidentState.BLOCKED)


def test_what_gave_way_is_begun_again_after_the_failover():
    world, taken = rejoining()
    world.health.kinds["pg1"] = detection.REFUSED
    world.rounds(3)
    world.drive()
    world.store.clusters.advance(
        "db", 1, world.clock.now(), new_epoch=True, primary="pg3", sets=[sync_set_of(["pg2"])]
    )
    world.health.facts["pg3"] = {"in_recovery": False, "standbys": [], "agent": {"postmaster": "running"}}
    world.health.facts["pg2"] = {"agent": {"postmaster": "exited"}}

    world.rounds(4)

    again = [r for r in world.store.journal.active() if r.plan.playbook == "postgres-rejoin"]
    assert again
    assert all(r.id != taken.id for r in again)


def test_an_observer_that_dies_between_the_two_leaves_no_incident_behind():
    """The run was broken off, and nobody has told its incident: the follower does."""
    world, taken = rejoining()
    why = "gave way to the failover of I-9"
    world.store.journal.break_off(taken.id, why, world.clock.now(), "an observer that died")

    world.follower.follow_all()

    (standby,) = [i for i in world.incidents if i.kind is IncidentKind.STANDBY_DOWN]
    assert standby.state is IncidentState.OPEN
