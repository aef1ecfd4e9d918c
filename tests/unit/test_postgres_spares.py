"""A set that was narrowed to one standby: who of the others may acknowledge for it; what if nobody may."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ha_tasks.errors import PassingFailure
from ha_tasks.model.cluster import ClusterState, Unfinished, sync_set_of
from ha_tasks.model.incident import IncidentState
from ha_tasks.model.run import RunState
from tests.fakes.toy_cluster import ToyNode
from tests.unit.test_postgres_adversity import context
from tests.unit.test_postgres_failover import World, reconciler


def narrowed(*, spare=True):
    """pg2 alone is in the set. pg1 is dead; pg3, which was taken out, follows it again, or is silent."""
    world = World()
    world.store.clusters.advance("db", 1, world.clock.now(), new_epoch=False, sets=[sync_set_of(["pg2"])])
    world.kill("pg1", agent=True)
    if not spare:
        world.kill("pg3")
    return world


def promoted(world):
    return [name for name, node in world.toy.nodes.items() if "promoted" in node.log]


def test_a_standby_outside_of_the_set_acknowledges_for_the_only_one_in_it():
    world = narrowed()

    run = world.recover()

    assert run.state is RunState.SUCCEEDED, run.error
    assert (world.cluster.primary, world.cluster.sets) == ("pg2", (sync_set_of(["pg3"]),))
    assert world.writable() == ["pg2"]


def test_it_is_asked_to_stop_receiving_before_it_is_pointed_elsewhere():
    """What it might still get from the old primary would be more than the candidate has."""
    world = narrowed()
    world.recover()

    log = world.toy.nodes["pg3"].log
    assert log.index("revoke") < log.index("follow pg2")


def test_it_never_counts_in_the_proof():
    world = narrowed()
    world.kill("pg2")

    run = world.recover()

    assert run.state is RunState.ROLLED_BACK
    assert "R + W <= N: only nobody confirmed" in run.error
    assert world.toy.nodes["pg3"].log == []
    assert promoted(world) == []


def ahead(it):
    it.lsn += 10


def of_another_timeline(it):
    it.timeline = 2


def promoted_before(it):
    it.promotion_begun = 1


def following_another(it):
    it.upstream = "pg2"


def of_another_system(it):
    it.system = "7111111111111111111"


def a_primary(it):
    it.primary, it.upstream = True, None


def stopped(it):
    it.running = False


@pytest.mark.parametrize(
    "wrong",
    [ahead, of_another_timeline, promoted_before, following_another, of_another_system, a_primary, stopped],
    ids=lambda wrong: wrong.__name__,
)
def test_who_cannot_follow_the_candidate_as_it_stands_is_none_and_is_left_as_it_was(wrong):
    world = narrowed()
    it = world.toy.nodes["pg3"]
    wrong(it)
    before = it.upstream

    run = world.recover()

    assert run.state is RunState.ROLLED_BACK, run.error
    assert promoted(world) == []
    assert it.upstream == before


def test_who_is_asynchronous_is_none():
    """No commit may ever wait for it."""
    world = narrowed()
    nodes = tuple(replace(i, synchronous=i.name != "pg3") for i in world.service.instances)
    world.platform.services["db"] = replace(world.service, instances=nodes)

    run = world.recover()

    assert "would have no standby" in run.error
    assert world.toy.nodes["pg3"].log == []


def test_while_a_branch_may_exist_nobody_outside_is_asked():
    world = narrowed()
    entry = Unfinished(epoch=2, candidate="pg2", sync_set=sync_set_of(["pg2"]), timeline=1)
    now, failing = world.clock.now(), ClusterState.FAILING
    world.store.clusters.advance("db", 1, now, new_epoch=True, state=failing, unfinished=[entry])

    world.recover()

    assert "follow pg2" not in world.toy.nodes["pg3"].log


def test_alone_it_is_refused_and_the_refusal_says_who_is_missing_and_how_to_go_on():
    world = narrowed(spare=False)

    run = world.recover()

    assert run.state is RunState.ROLLED_BACK
    assert "pg2 has everything, but would have no standby" in run.error
    assert "Bring pg3 back" in run.error
    assert "ha-tasks recover db --accept-data-loss=BYTES" in run.error
    assert (world.cluster.state, world.cluster.unfinished) == (ClusterState.BLOCKED, ())
    assert world.toy.nodes["pg2"].upstream == "pg1"


@pytest.mark.parametrize("running", [True, False], ids=["it runs", "only its agent is back"])
def test_it_goes_on_by_itself_once_the_one_outside_is_back_and_not_before(running):
    world = narrowed(spare=False)
    incident = world.recover().incident

    def looked():
        world.clock.advance(11)
        reconciler(world).clusters()
        return world.store.incidents.get(incident).state

    assert looked() is IncidentState.ESCALATED

    world.toy.nodes["pg3"].agent, world.toy.nodes["pg3"].running = True, running
    if not running:
        assert looked() is IncidentState.ESCALATED
        assert world.toy.nodes["pg3"].log[0] == "start_standby"
    assert looked() is IncidentState.OPEN
    assert world.recover().state is RunState.SUCCEEDED
    assert world.cluster.sets == (sync_set_of(["pg3"]),)


def test_a_stopped_node_that_followed_another_is_not_started_for_it():
    world = narrowed(spare=False)
    world.recover()
    it = world.toy.nodes["pg3"]
    it.agent, it.upstream = True, "pg2"
    world.clock.advance(11)
    reconciler(world).clusters()

    assert it.log == []


def test_a_failover_that_ends_after_it_was_asked_has_it_follow_the_primary_again():
    world = narrowed()

    follow = world.toy.follow

    def cannot_follow_the_candidate(node, upstream, by, *, timeout_s=5.0):
        if upstream == "pg2":
            raise PassingFailure("it does not stream")
        follow(node, upstream, by)

    world.toy.follow = cannot_follow_the_candidate
    run = world.recover()

    assert run.state is RunState.ROLLED_BACK, run.error
    assert world.toy.nodes["pg3"].log == ["revoke", "follow pg1"]
    assert world.toy.nodes["pg3"].upstream == "pg1"


@pytest.mark.parametrize("step", ["choose_candidate", "repoint_survivors", "promote_candidate"])
@pytest.mark.parametrize("at", ["captured", "applied", "settled"])
def test_a_worker_that_dies_in_between_changes_nothing_about_the_end(step, at):
    world = narrowed()
    world.dies_at = f"do.{step}.{at}"

    run = world.recover()

    assert world.dies_at == ""
    assert run.state is RunState.SUCCEEDED, run.error
    assert world.cluster.sets == (sync_set_of(["pg3"]),)


def test_the_plan_names_it():
    world = narrowed()
    action = world.actions["choose_candidate"]
    said = action.plan(replace(context(world), action="choose_candidate"))

    assert said.output == {"candidate": "pg2", "survivors": ["pg3"]}
    assert said.doubt == ""


def test_of_a_node_that_is_nobodys_the_agents_are_not_asked():
    world = narrowed()
    world.toy.nodes["pg9"] = ToyNode("pg9", upstream="pg1")
    world.recover()

    assert world.toy.nodes["pg9"].log == []
