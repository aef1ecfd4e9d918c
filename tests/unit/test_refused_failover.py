"""The way back of a failover that was refused: short, and what it could not do the reconciler does."""

from __future__ import annotations

from inspect import signature

from ha_tasks.errors import AgentUnreachable, PassingFailure
from ha_tasks.model.cluster import ClusterState
from ha_tasks.model.run import RunState
from ha_tasks.names import ActionName
from tests.unit.test_postgres_failover import World, reconciler

BACK_S = 3.0
"""So long, from the refusal, until the primary takes writes again, if it lives."""


def refused(world):
    """pg3 is silent, so that nothing can be promoted. Answers the run, and how long its way back took."""
    world.toy.nodes["pg3"].agent = False
    run = world.recover()
    assert run.state is RunState.ROLLED_BACK, run.error
    undone = [a for a in world.store.journal.attempts(run.id) if a.phase == "undo"]
    return run, (undone[-1].ended_at - undone[0].started_at).total_seconds()


def wait_in_vain(world, verb):
    """The host of pg1 is dark: whoever asks its agent waits for as long as he said he would."""
    asked = getattr(world.toy, verb)
    usual_s = signature(asked).parameters["timeout_s"].default

    def waits(node, *args, timeout_s=usual_s, **more):
        if node == "pg1" and not world.toy.nodes["pg1"].agent:
            world.clock.advance(timeout_s)
            raise AgentUnreachable("timed out")
        return asked(node, *args, **more)

    setattr(world.toy, verb, waits)


def test_it_does_not_wait_for_a_primary_that_is_gone():
    world = World()
    world.kill("pg1", agent=True)

    _, took_s = refused(world)

    assert took_s <= BACK_S
    assert world.cluster.state is ClusterState.BLOCKED
    assert world.toy.nodes["pg2"].upstream == "pg1"


def test_it_does_not_wait_for_a_host_that_is_dark():
    world = World()
    world.kill("pg1", agent=True)
    for verb in ("fence", "start_primary", "status"):
        wait_in_vain(world, verb)

    _, took_s = refused(world)

    assert took_s <= BACK_S


def test_a_primary_that_lives_leads_again_at_once():
    world = World()
    world.kill("pg1")

    _, took_s = refused(world)

    assert took_s <= BACK_S
    assert (world.cluster.state, world.writable()) == (ClusterState.STEADY, ["pg1"])


def test_a_standby_that_did_not_follow_at_once_is_the_reconciler_s():
    """It looks each second, and leaves the cluster alone while the run goes on."""
    world = World()
    world.kill("pg1")
    world.kill("pg3", agent=True)
    follow, failing = world.toy.follow, [PassingFailure("its receiver does not start")]

    def once(node, *args, **more):
        if node == "pg2" and failing:
            raise failing.pop()
        return follow(node, *args, **more)

    world.toy.follow = once
    _, took_s = refused(world)
    assert world.writable() == []

    for _ in range(2):
        reconciler(world).clusters()
    assert (world.cluster.state, world.writable()) == (ClusterState.STEADY, ["pg1"])
    assert took_s + 1.0 <= BACK_S


def test_a_primary_whose_crash_recovery_takes_longer_is_left_to_the_reconciler():
    world = World()
    world.kill("pg1")
    start = world.toy.start_primary

    def slowly(node, *args, timeout_s=30.0, **more):
        start(node, *args, **more)
        world.clock.advance(timeout_s)
        raise PassingFailure("not in time: PostgreSQL of pg1 takes sessions")

    world.toy.start_primary = slowly
    _, took_s = refused(world)

    allowed = world.store.journal.get(1).steps[2].planned
    assert allowed.action == ActionName.FENCE_PRIMARY
    assert took_s <= allowed.timeout_s
