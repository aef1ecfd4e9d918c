"""A failover that was refused, or left half done: it goes on by itself once whoever was silent answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ha_tasks.model.cluster import Cluster, ClusterState, Unfinished, sync_set_of
from ha_tasks.model.failover import Word
from ha_tasks.model.incident import IncidentKind, IncidentState
from ha_tasks.model.resumption import Answer, Way, awaited, way_on
from ha_tasks.model.run import RunState
from ha_tasks.workflows.resuming import asked
from tests.unit.builders import database
from tests.unit.test_postgres_adversity import half_promoted
from tests.unit.test_postgres_failover import World, failed_over, reconciler

CANDIDATE = Unfinished(epoch=2, candidate="pg2", sync_set=sync_set_of(["pg3"]), timeline=1)


def refused():
    """pg1 and pg3 are lost together: nothing is promoted, everything is undone."""
    world = World()
    world.kill("pg1", agent=True)
    world.kill("pg3", agent=True)
    run = world.recover()
    assert run.state is RunState.ROLLED_BACK
    assert world.cluster.state is ClusterState.BLOCKED
    return world, run.incident


def half_done(world, *unfinished):
    now, state = world.clock.now(), ClusterState.FAILING
    world.store.clusters.advance("db", 1, now, new_epoch=True, state=state, unfinished=unfinished)


def looked(world, seconds=11):
    """The reconciler's look, that much later."""
    world.clock.advance(seconds)
    reconciler(world).clusters()
    world.world_goes_on()


def state_of(world, incident):
    return world.store.incidents.get(incident).state


# --- refused ---


def test_a_refused_failover_is_tried_again_once_who_was_missing_answers():
    world, incident = refused()
    looked(world)
    assert state_of(world, incident) is IncidentState.ESCALATED

    world.toy.nodes["pg3"].agent = world.toy.nodes["pg3"].running = True
    looked(world)
    assert state_of(world, incident) is IncidentState.OPEN

    assert world.recover().state is RunState.SUCCEEDED
    assert world.writable() == [world.cluster.primary] != ["pg1"]


def test_a_standby_whose_host_is_back_is_started_so_that_it_can_confirm():
    """Only agents start PostgreSQL, and a rejoin needs a primary: nobody else would."""
    world, incident = refused()
    world.toy.nodes["pg3"].agent = True

    for _ in range(2):
        looked(world)

    assert state_of(world, incident) is IncidentState.OPEN
    assert world.recover().state is RunState.SUCCEEDED


def test_a_promoted_candidate_whose_host_is_back_is_started_as_what_it_was():
    world = World()
    half_done(world, CANDIDATE)
    world.kill("pg1", agent=True)
    pg2 = world.toy.nodes["pg2"]
    pg2.running, pg2.primary, pg2.promotion_begun, pg2.timeline = False, True, 2, 2
    world.toy.nodes["pg3"].running, world.toy.nodes["pg3"].upstream = False, "pg2"

    looked(world)
    assert (pg2.running, world.toy.nodes["pg3"].running) == (True, True)

    assert world.recover().state is RunState.SUCCEEDED
    assert world.writable() == ["pg2"]


def test_not_at_once_because_what_was_undone_needs_a_moment():
    world, incident = refused()
    world.toy.nodes["pg3"].agent = world.toy.nodes["pg3"].running = True

    looked(world, seconds=1)

    assert state_of(world, incident) is IncidentState.ESCALATED


def test_whom_it_waits_for_is_told_once_with_what_a_person_can_do_instead():
    world, incident = refused()

    for _ in range(3):
        looked(world)

    told = [e.text for e in world.store.incidents.timeline(incident) if e.text.startswith("waits for")]
    assert len(told) == 1
    assert "pg3" in told[0]
    assert "ha-tasks recover db --accept-data-loss=BYTES" in told[0]


def test_when_the_primary_comes_back_first_it_leads_again():
    world, incident = refused()
    world.toy.nodes["pg1"].agent = True

    for _ in range(2):
        looked(world)

    assert world.cluster.state is ClusterState.STEADY
    assert world.writable() == ["pg1"]
    assert state_of(world, incident) is IncidentState.ESCALATED


def test_a_person_who_said_no_is_not_overruled():
    world, incident = refused()
    world.toy.nodes["pg3"].agent = world.toy.nodes["pg3"].running = True
    get = world.store.journal.get
    world.store.journal.get = lambda run: replace(get(run), fence=0)

    looked(world)

    assert state_of(world, incident) is IncidentState.ESCALATED


# --- half done ---


def test_a_promotion_that_nobody_recorded_is_taken_to_its_end():
    world = half_promoted()
    world.toy.nodes["pg1"].running = world.toy.nodes["pg1"].agent = True

    looked(world)
    assert world.cluster.state is ClusterState.FAILING

    assert world.recover().state is RunState.SUCCEEDED
    assert world.writable() == ["pg2"]


@pytest.mark.parametrize("marked", [None, 2])
def test_what_never_came_to_a_promotion_is_called_off(marked):
    """The old primary lives and waits for standbys that were cut off: there was no way out of this."""
    world = World()
    half_done(world, CANDIDATE)
    for name in ("pg2", "pg3"):
        world.toy.nodes[name].upstream = None
    world.toy.nodes["pg2"].promotion_begun = marked

    for _ in range(2):
        looked(world)

    assert world.cluster.unfinished == ()
    assert world.writable() == ["pg1"]
    assert world.toy.nodes["pg3"].upstream == "pg1"
    assert world.cluster.state is (ClusterState.STEADY if marked is None else ClusterState.BLOCKED)


def test_with_a_mark_it_is_steady_only_when_that_node_has_been_rejoined():
    world = World()
    half_done(world, CANDIDATE)
    world.toy.nodes["pg2"].promotion_begun = 2
    looked(world)
    assert world.toy.nodes["pg2"].upstream != "pg1"

    assert world.recover("pg2", IncidentKind.STANDBY_DOWN).state is RunState.SUCCEEDED
    looked(world)

    assert world.cluster.state is ClusterState.STEADY


@pytest.mark.parametrize("what", ["silent", "promoted", "came back as a standby"])
def test_it_is_not_called_off_while_a_candidate_may_have_been_promoted(what):
    world = World()
    half_done(world, CANDIDATE)
    pg2 = world.toy.nodes["pg2"]
    pg2.upstream, pg2.promotion_begun = None, 2
    if what == "silent":
        pg2.agent = False
    elif what == "promoted":
        pg2.primary, pg2.timeline = True, 2
    else:
        pg2.on_disk = 2
    world.toy.nodes["pg3"].upstream = None

    looked(world)

    assert world.cluster.state is ClusterState.FAILING
    assert world.cluster.unfinished == (CANDIDATE,)
    assert world.toy.nodes["pg3"].upstream is None


def test_a_late_order_to_promote_is_refused_by_then():
    world = World()
    half_done(world, CANDIDATE)
    before = world.cluster.epoch

    looked(world)

    assert world.toy.nodes["pg2"].epoch[0] > before


# --- who is pointed where ---


def test_a_node_that_is_in_no_set_is_not_simply_pointed_to_the_primary():
    """It may hold another history of the same timeline, and would stream from there silently."""
    world = failed_over()
    pg1 = world.toy.nodes["pg1"]
    pg1.running = pg1.agent = True
    pg1.primary, pg1.upstream = False, None

    looked(world)

    assert "follow" not in " ".join(pg1.log)
    assert world.cluster.state is ClusterState.STEADY


def test_who_has_more_than_the_fork_is_not_waited_for_as_a_survivor():
    """pg3 was silent when pg2 was chosen, and pg1, whose commits nobody else acknowledged, fed it further."""
    three = database()
    fourth = replace(three.instances[2], name="pg4", host="pg4")
    world = half_promoted(replace(three, instances=(*three.instances, fourth)))
    pg3 = world.toy.nodes["pg3"]
    pg3.upstream, pg3.timeline, pg3.lsn = "pg1", 1, 5000
    world.toy.nodes["pg4"] = replace(pg3, name="pg4", lsn=1000)
    sets = [sync_set_of(["pg2", "pg3", "pg4"])]
    world.store.clusters.advance("db", world.cluster.epoch, world.clock.now(), new_epoch=False, sets=sets)

    run = world.recover()

    assert run.state is RunState.SUCCEEDED, run.error
    assert run.outputs["choose_candidate"] | {"at": ""} == {
        "candidate": "pg2",
        "survivors": ["pg4"],
        "at": "",
    }
    assert world.toy.nodes["pg3"].upstream is None


def test_where_nobody_else_could_acknowledge_it_waits_instead_of_being_begun_over_and_over():
    world = half_promoted()
    pg3 = world.toy.nodes["pg3"]
    pg3.upstream, pg3.timeline = "pg1", 1

    pg3.lsn = 1000
    assert way_on(world.cluster, asked(world.tools, ["pg2", "pg3"])) is Way.FORWARD
    pg3.lsn = 5000
    assert way_on(world.cluster, asked(world.tools, ["pg2", "pg3"])) is Way.WAIT


# --- the rule ---


def answer(timeline=1, on_disk=1, begun=None, *, runs=True, in_recovery=True):
    word = Word(epoch=1, in_recovery=in_recovery, promotion_begun=begun, timeline=timeline, on_disk=on_disk)
    return Answer(word=word, runs=runs, lsn=100, upstream="pg1")


PROMOTED = answer(2, 2, 2, in_recovery=False)


@pytest.mark.parametrize(
    ("state", "unfinished", "answers", "way", "missing"),
    [
        ("failing", [CANDIDATE], {"pg2": answer(), "pg3": answer()}, Way.BACK, []),
        ("failing", [CANDIDATE], {"pg2": answer(begun=2)}, Way.BACK, ["pg3"]),
        ("failing", [CANDIDATE], {"pg3": answer()}, Way.WAIT, ["pg2"]),
        ("failing", [CANDIDATE], {"pg2": PROMOTED}, Way.WAIT, ["pg3"]),
        ("failing", [CANDIDATE], {"pg2": PROMOTED, "pg3": answer()}, Way.FORWARD, []),
        ("blocked", [], {"pg2": answer(), "pg3": answer()}, Way.FORWARD, []),
        ("blocked", [], {"pg2": answer()}, Way.WAIT, ["pg3"]),
        ("blocked", [], {"pg2": answer(), "pg3": answer(runs=False)}, Way.WAIT, ["pg3"]),
        # A primary that nobody promoted can be revoked by nobody.
        ("blocked", [], {"pg2": answer(), "pg3": answer(in_recovery=False)}, Way.WAIT, []),
    ],
)
def test_back_forward_or_waiting(state, unfinished, answers, way, missing):
    cluster = Cluster(
        name="db",
        epoch=3,
        primary="pg1",
        state=ClusterState(state),
        sets=(sync_set_of(["pg2", "pg3"]),),
        unfinished=tuple(unfinished),
    )

    assert (way_on(cluster, answers), awaited(cluster, answers)) == (way, missing)
