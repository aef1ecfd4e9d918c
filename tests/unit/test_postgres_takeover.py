"""A failover is taken over while its executor only sleeps: what that one still does changes nothing.

ADR 0022: the second executor carries a higher fence in the same epoch.
"""

from __future__ import annotations

import copy
from datetime import timedelta

import pytest

from ha_tasks.errors import AgentUnreachable
from ha_tasks.model.run import RunState
from tests.unit.test_postgres_failover import STEPS, World

BEFORE_THE_COMMIT = STEPS[: STEPS.index("commit_primary") + 1]


class Sleepy:
    """Stops the first executor at a boundary, and has another one take the run to its end meanwhile."""

    def __init__(self, world: World, step: str, before_it_goes_on=lambda: None) -> None:
        self.world = world
        self.step = step
        self.between = before_it_goes_on
        self.seen: tuple[object, ...] | None = None
        plain = world.orchestrator._boundary
        self.second = copy.copy(world.orchestrator)
        self.second._owner = "h/test/2"
        self.second._boundary = plain
        world.orchestrator._boundary = self._boundary

    def _boundary(self, phase, action, point):
        self.world.world_goes_on()
        if (phase, action, point) != ("do", self.step, "captured") or self.seen is not None:
            return
        self.seen = ()
        self.between()
        self.world.clock.advance(10)
        run = self.world.store.journal.recent()[0]
        self.run = self.second.drive(run.id, self.world.clock.now() + timedelta(minutes=10))
        self.seen = picture(self.world)


def picture(world):
    nodes = {n: (t.running, t.primary, t.timeline, t.promotion_begun) for n, t in world.toy.nodes.items()}
    return world.cluster, nodes, world.haproxy.states("pg_write")


@pytest.mark.parametrize("step", BEFORE_THE_COMMIT)
def test_one_that_sleeps_while_another_goes_forward(step):
    world = World()
    world.kill("pg1", agent=True)
    sleepy = Sleepy(world, step)

    run = world.recover()

    assert sleepy.run.state is run.state is RunState.SUCCEEDED, run.error
    assert picture(world) == sleepy.seen
    assert len(world.writable()) == 1


@pytest.mark.parametrize("step", BEFORE_THE_COMMIT[: BEFORE_THE_COMMIT.index("promote_candidate")])
def test_one_that_sleeps_while_another_goes_back(step):
    """The other one is refused: pg3 does not confirm, or does not follow the candidate."""
    world = World()

    def refuses(*_, **__):
        raise AgentUnreachable("pg3 is away")

    def then_refused():
        world.toy.follow, world.toy.revoke = refuses, refuses

    follow, revoke = world.toy.follow, world.toy.revoke
    sleepy = Sleepy(world, step, then_refused)
    settled = sleepy.second._settled

    def back_again(before, after):
        """Its agent answers again by the time that everything is undone."""
        if after.state is RunState.COMPENSATING:
            world.toy.follow, world.toy.revoke = follow, revoke
        settled(before, after)

    sleepy.second._settled = back_again
    run = world.recover()

    assert sleepy.run.state is run.state is RunState.ROLLED_BACK, run.error
    cluster, nodes, wanted = sleepy.seen
    assert (world.cluster, world.haproxy.states("pg_write")) == (cluster, wanted)
    assert [n for n, t in world.toy.nodes.items() if t.primary] == ["pg1"]
    assert all(t.promotion_begun is None for t in world.toy.nodes.values())
    assert world.cluster.unfinished == ()
    assert nodes["pg1"][1]
