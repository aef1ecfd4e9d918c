"""Revoking the standbys: who is waited for, who is asked again, and what is not taken for a standby."""

from __future__ import annotations

import threading

import pytest

from ha_tasks.errors import NotSafe, PassingFailure
from ha_tasks.model.cluster import ClusterState, Unfinished, sync_set_of
from ha_tasks.model.incident import IncidentState
from ha_tasks.model.playbook import Acceptance
from ha_tasks.model.run import RunState
from ha_tasks.workflows.actions import postgres
from ha_tasks.workflows.actions.postgres.revocation import ASKED_S
from tests.fakes.toy_cluster import ToyNode
from tests.unit.test_postgres_adversity import context
from tests.unit.test_postgres_failover import World, reconciler


def failing(world, *unfinished):
    """The world in the middle of a failover, in epoch 2."""
    now, state = world.clock.now(), ClusterState.FAILING
    world.store.clusters.advance("db", 1, now, new_epoch=True, state=state, unfinished=unfinished)
    return context(world, outputs={"open_epoch": {"epoch": 2}})


def of_four(world):
    """One standby more, so that two of three are enough."""
    world.toy.nodes["pg4"] = ToyNode("pg4", upstream="pg1")
    sets = [sync_set_of(["pg2", "pg3", "pg4"])]
    world.store.clusters.advance("db", 1, world.clock.now(), new_epoch=False, sets=sets)


def test_a_silent_agent_is_asked_for_a_while_and_not_again():
    """The old primary may live all the time, and takes no write."""
    world = World()
    world.kill("pg1")
    world.toy.nodes["pg3"].agent = False
    began = world.clock.monotonic()

    run = world.recover()

    assert run.state is RunState.ROLLED_BACK
    assert next(s for s in run.steps if s.planned.id == "revoke_standbys").attempts == 1
    assert world.clock.monotonic() - began < ASKED_S + 2


def test_an_agent_that_is_being_restarted_is_asked_again():
    world = World()
    ctx = failing(world)
    world.toy.nodes["pg3"].agent = False

    def back_after_a_second():
        world.toy.nodes["pg3"].agent = world.clock.elapsed_s >= 1

    world.clock.on_pause = back_after_a_second
    output = postgres.RevokeStandbys(world.tools).do(ctx)

    assert {r["node"] for r in output["revoked"]} == {"pg2", "pg3"}


def test_who_hangs_is_not_waited_for_once_enough_have_confirmed():
    world = World()
    of_four(world)
    ctx = failing(world)
    revoke, let_go = world.toy.revoke, threading.Event()

    def hangs(node, by, *, timeout_s=5.0):
        if node == "pg4":
            let_go.wait(20)
        return revoke(node, by)

    world.toy.revoke = hangs
    try:
        output = postgres.RevokeStandbys(world.tools).do(ctx)

        assert not let_go.is_set()
        assert [r["node"] for r in output["revoked"]] == ["pg2", "pg3"]
    finally:
        let_go.set()


@pytest.mark.parametrize(("silent", "raised"), [((), PassingFailure), (("pg3",), NotSafe)])
def test_another_attempt_is_made_only_while_it_could_suffice(silent, raised):
    """pg2 answers that it needs longer. With pg3 silent that would not help: nothing is waited for."""
    world = World()
    ctx = failing(world)
    revoke = world.toy.revoke
    for name in silent:
        world.toy.nodes[name].agent = False

    def slow(node, by, *, timeout_s=5.0):
        if node == "pg2":
            raise PassingFailure("not in time: pg2 has replayed the WAL on its disk")
        return revoke(node, by)

    world.toy.revoke = slow

    with pytest.raises(raised, match=r"R \+ W <= N"):
        postgres.RevokeStandbys(world.tools).do(ctx)


def test_a_standby_of_another_system_is_named_and_nothing_is_promoted():
    world = World()
    ctx = failing(world)
    world.toy.nodes["pg3"].system = "7111111111111111111"

    with pytest.raises(NotSafe, match=r"pg3 7111111111111111111.*rebuild"):
        postgres.RevokeStandbys(world.tools).do(ctx)


def promoted_by_hand(world, node="pg4", begun=None):
    """It takes writes, and the other two of three would be enough."""
    of_four(world)
    it = world.toy.nodes[node]
    it.primary, it.upstream, it.timeline, it.promotion_begun = True, None, 2, begun


@pytest.mark.parametrize("begun", [None, 7], ids=["by hand", "by a failover that nobody has recorded"])
def test_beside_a_foreign_primary_nothing_is_promoted_though_the_others_suffice(begun):
    world = World()
    promoted_by_hand(world, begun=begun)
    world.kill("pg1", agent=True)

    run = world.recover()

    assert run.state is RunState.ROLLED_BACK
    assert "pg4 would be a second primary" in run.error
    assert "docs/runbooks/two-primaries.md" in run.error
    assert [n for n in ("pg2", "pg3") if "promoted" in world.toy.nodes[n].log] == []


def test_nobody_accepts_a_second_primary_by_accepting_a_loss():
    world = World()
    promoted_by_hand(world)
    world.kill("pg1", agent=True)

    run = world.recover(accepts=Acceptance(bytes=10**9, primary_at=1300))

    assert "pg4 would be a second primary" in run.error


def test_it_goes_on_by_itself_once_the_foreign_primary_has_ended_and_not_before():
    world = World()
    promoted_by_hand(world)
    world.kill("pg1", agent=True)
    incident = world.recover().incident

    def looked():
        world.clock.advance(11)
        reconciler(world).clusters()
        return world.store.incidents.get(incident).state

    assert looked() is IncidentState.ESCALATED
    assert "waits for the end of pg4" in world.store.incidents.timeline(incident)[-1].text

    world.kill("pg4")
    world.toy.nodes["pg4"].agent = False
    assert looked() is IncidentState.OPEN
    assert world.recover().state is RunState.SUCCEEDED


def test_a_candidate_of_ours_that_was_promoted_is_no_foreign_primary():
    world = World()
    promoted_by_hand(world, begun=1)
    its = Unfinished(epoch=1, candidate="pg4", sync_set=sync_set_of(["pg2", "pg3"]), timeline=1)
    ctx = failing(world, its)

    output = postgres.RevokeStandbys(world.tools).do(ctx)

    assert "pg4" in {r["node"] for r in output["revoked"]}


def test_a_candidate_that_was_never_promoted_does_not_stand_in_the_way():
    """Its set cannot be revoked any more; but it shows, in this epoch, that it is no primary."""
    world = World()
    world.toy.nodes["pg4"] = ToyNode("pg4", agent=False)
    its = Unfinished(epoch=1, candidate="pg2", sync_set=sync_set_of(["pg4"]), timeline=1)
    ctx = failing(world, its)

    output = postgres.RevokeStandbys(world.tools).do(ctx)

    assert {r["node"] for r in output["revoked"]} == {"pg2", "pg3"}


def test_who_has_received_from_a_candidate_that_is_away_leads_whoever_has_not():
    """pg2 received from pg4, which was promoted and is silent. pg3 has more, but of the old timeline."""
    world = World()
    of_four(world)
    now, state = world.clock.now(), ClusterState.FAILING
    entry = Unfinished(epoch=2, candidate="pg4", sync_set=sync_set_of(["pg2", "pg3"]), timeline=1)
    world.store.clusters.advance("db", 1, now, new_epoch=True, state=state, unfinished=[entry])
    world.kill("pg1", agent=True)
    world.kill("pg4", agent=True)
    world.toy.nodes["pg3"].lsn = 5000
    world.toy.nodes["pg2"].timeline, world.toy.nodes["pg2"].upstream = 2, "pg4"

    run = world.recover()

    assert run.state is RunState.SUCCEEDED, run.error
    assert world.cluster.primary == "pg2"
    assert world.cluster.sets == (sync_set_of(["pg3"]),)
