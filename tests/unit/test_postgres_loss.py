"""A promotion by which data may be lost: within what was accepted, and only of what is certainly dead."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from ha_tasks.model.cluster import ClusterState, Unfinished, sync_set_of
from ha_tasks.model.platform import DataPolicy
from ha_tasks.model.playbook import Acceptance
from ha_tasks.model.run import RunState
from tests.fakes.power import FakePower
from tests.unit.test_postgres_failover import World

ENOUGH = Acceptance(bytes=500, primary_at=1300)
"""The standbys are at 1000."""


def lost_both(*, agent=True):
    """pg1 and pg3 are lost together; pg1's agent answers, or its whole host is gone."""
    world = World()
    world.kill("pg1", agent=not agent)
    world.kill("pg3", agent=True)
    return world


def test_without_an_acceptance_nothing_is_promoted():
    world = lost_both()

    assert world.recover().state is RunState.ROLLED_BACK
    assert world.toy.nodes["pg2"].log.count("promoted") == 0


def test_with_it_the_furthest_that_answers_is_promoted_and_the_loss_is_recorded():
    world = lost_both()

    run = world.recover(accepts=ENOUGH)

    assert run.state is RunState.SUCCEEDED, run.error
    loss = run.outputs["revoke_standbys"]["possible_loss"]
    assert (loss["bytes"], loss["accepted"], loss["dead"]) == (300, 500, {"pg1": "its agent"})
    assert world.cluster.primary == "pg2"
    assert [s.setting() for s in world.cluster.sets] == [""]
    told = [e.text for e in world.store.incidents.timeline(run.incident)]
    assert any("300 bytes may be lost (accepted: 500), and what pg1 acknowledged after" in t for t in told)


@pytest.mark.parametrize(
    ("accepts", "why"),
    [
        (Acceptance(bytes=299, primary_at=1300), "300 bytes would be lost.*--accept-data-loss=300"),
        (Acceptance(bytes=10**9), "how much would be lost is not known"),
    ],
)
def test_more_than_was_accepted_or_nobody_knows_how_much_is_refused(accepts, why):
    world = lost_both()

    run = world.recover(accepts=accepts)

    assert run.state is RunState.ROLLED_BACK
    assert re.search(why, run.error)
    assert world.toy.nodes["pg2"].log.count("promoted") == 0


def test_a_primary_that_nobody_has_ended_may_go_on_acknowledging_so_nothing_is_promoted():
    """Its host is silent, and so is the standby that it may still reach."""
    world = lost_both(agent=False)

    run = world.recover(accepts=ENOUGH)

    assert run.state is RunState.ROLLED_BACK
    assert "pg1 may still take writes" in run.error
    assert "--confirm-off=pg1" in run.error


def has_power(world, power):
    for action in world.actions.values():
        if hasattr(action, "_tools") and hasattr(action._tools, "power"):
            action._tools = replace(action._tools, power=power)


@pytest.mark.parametrize(
    ("power", "why"),
    [
        ({"h-pg1": False}, r"agent: .*; power switch: h-pg1 was not switched off"),
        ({}, r"agent: .*; power switch: none is configured for h-pg1"),
    ],
)
def test_why_neither_agent_nor_power_switch_has_ended_it_is_told(power, why):
    world = lost_both(agent=False)
    host = world.service.instance("pg1").host
    has_power(world, FakePower({h.replace("h-pg1", host): works for h, works in power.items()}))

    run = world.recover(accepts=ENOUGH)

    assert run.state is RunState.ROLLED_BACK
    assert re.search(why.replace("h-pg1", host), run.error)


@pytest.mark.parametrize("by", ["a person", "its power switch"])
def test_its_death_is_proved_by_a_person_or_by_its_power_switch(by):
    world = lost_both(agent=False)
    host = world.service.instance("pg1").host
    accepts = ENOUGH
    if by == "a person":
        accepts = replace(ENOUGH, off=("pg1",))
    else:
        has_power(world, FakePower({host: True}))

    run = world.recover(accepts=accepts)

    assert run.state is RunState.SUCCEEDED, run.error
    assert run.outputs["revoke_standbys"]["possible_loss"]["dead"] == {"pg1": by}


def test_a_candidate_that_is_away_must_be_dead_as_well():
    """It may have been promoted by an earlier failover, and take writes."""
    world = lost_both()
    entry = Unfinished(epoch=2, candidate="pg3", sync_set=sync_set_of(["pg2"]), timeline=1)
    now, state = world.clock.now(), ClusterState.FAILING
    sets = [sync_set_of(["pg2", "pg3", "pg4"])]
    world.store.clusters.advance("db", 1, now, new_epoch=True, state=state, sets=sets, unfinished=[entry])
    world.toy.nodes["pg4"] = replace(world.toy.nodes["pg3"], name="pg4")

    run = world.recover(accepts=ENOUGH)

    assert "pg3 may still take writes" in run.error
    assert world.cluster.state is ClusterState.FAILING


def test_what_is_safe_asks_for_no_proof_and_loses_nothing():
    world = World()
    world.kill("pg1", agent=True)

    run = world.recover(accepts=ENOUGH)

    assert run.state is RunState.SUCCEEDED, run.error
    assert "possible_loss" not in run.outputs["revoke_standbys"]


@pytest.mark.parametrize(
    ("policy", "accepts", "ends"),
    [
        ("durability", None, "rolled_back"),
        ("durability", Acceptance(bytes=0, primary_at=1000), "succeeded"),
        ("availability", None, "succeeded"),
    ],
)
def test_whether_the_last_standby_may_stand_alone_is_a_matter_of_policy_or_of_a_person(policy, accepts, ends):
    world = World()
    settings = replace(world.service.postgres, policy=DataPolicy(policy))
    world.service = replace(world.service, postgres=settings)
    world.platform.services["db"] = world.service
    world.store.clusters.advance("db", 1, world.clock.now(), new_epoch=False, sets=[sync_set_of(["pg2"])])
    world.kill("pg1", agent=True)
    world.kill("pg3")

    run = world.recover(accepts=accepts)

    assert run.state is RunState(ends), run.error
