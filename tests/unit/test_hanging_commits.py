"""Commits that hang on the synchronous set: told of while the set is changed, over when they flow."""

from __future__ import annotations

import pytest

from ha_tasks.cli.advice import advice
from ha_tasks.model.cluster import ClusterState, sync_set_of
from ha_tasks.model.hanging_commits import commits_flow
from ha_tasks.model.incident import IncidentKind, IncidentState
from ha_tasks.model.probe import OutcomeKind
from tests.unit.builders import at, database, outcome
from tests.unit.guarded_world import GuardedWorld
from tests.unit.test_rejoin_waits import PRIMARY, STANDBY

HANG = IncidentKind.COMMITS_HANG


@pytest.fixture
def world():
    made = GuardedWorld(database(), cooldown_s=0.0)
    made.cluster()
    made.health.facts |= {"pg1": PRIMARY, "pg2": STANDBY, "pg3": STANDBY}
    made.rounds(4)
    return made


def hang(world, rounds=24, who="17@t"):
    world.health.facts["pg1"] = PRIMARY | {"lsn": 7, "waits": {"sync": who}}
    world.rounds(rounds)


def flow(world, rounds):
    world.health.facts["pg1"] = PRIMARY
    world.rounds(rounds)


def of(world):
    return next((i for i in world.incidents if i.kind is HANG), None)


def test_people_are_told_what_hangs_and_what_to_look_at_and_no_failover_is_begun(world):
    hang(world)

    incident = of(world)
    assert (incident.instance, incident.state, incident.severity) == ("pg1", IncidentState.OPEN, "critical")
    assert "E5 (set): a commit hangs for 10 s" in incident.summary
    assert "ANY 1 (pg2, pg3) receives and flushes: ha-tasks replication db" in advice(incident, None, "")
    assert world.runs == ()


def test_it_is_over_by_itself_once_commits_flow(world):
    hang(world)
    flow(world, 3)
    assert of(world).state is IncidentState.OPEN, "a moment without a waiting commit is no end"

    flow(world, 6)
    assert of(world).state is IncidentState.RESOLVED
    assert world.story(of(world))[-1] == "resolved: commits are acknowledged again"


def test_a_client_that_gives_up_and_tries_again_is_not_taken_for_the_end(world):
    hang(world)
    for n in range(12):
        hang(world, 2, who=f"{n}@t")

    assert of(world).state is IncidentState.OPEN
    assert len([i for i in world.incidents if i.kind is HANG]) == 1


def test_two_observers_open_one(world):
    world.health.facts["pg1"] = PRIMARY | {"lsn": 7, "waits": {"sync": "17@t"}}
    world.rounds(24, [world.detection, world.observer("h2/other")])

    assert len([i for i in world.incidents if i.kind is HANG]) == 1


def test_while_a_member_that_receives_nothing_leaves_the_set_both_are_told(world):
    hung = PRIMARY | {"lsn": 7, "waits": {"sync": "17@t"}, "standbys": ["pg2"]}
    world.health.facts["pg1"] = hung
    world.rounds(26)

    assert {i.kind for i in world.incidents} == {HANG, IncidentKind.SYNC_MEMBER_SILENT}
    assert [r.plan.playbook for r in world.runs] == ["postgres-narrow-set"]


def test_of_a_primary_that_has_been_replaced_it_is_over(world):
    hang(world)
    now = world.clock.now()
    world.store.clusters.advance("db", 1, now, new_epoch=True, primary="pg2", sets=[sync_set_of(["pg3"])])
    world.health.facts["pg2"] = PRIMARY
    world.rounds(2)

    assert world.story(of(world))[-1] == "resolved: pg2 is the primary now"


def test_while_a_failover_is_under_way_its_revocation_is_not_told(world):
    now, state = world.clock.now(), ClusterState.FAILING
    world.store.clusters.advance("db", 1, now, new_epoch=True, state=state)
    hang(world)

    assert of(world) is None


@pytest.mark.parametrize(
    ("waits", "kind", "flows"),
    [
        ([None] * 6, OutcomeKind.OK, True),
        (["1@t", None, "2@t", None, "3@t", "4@t"], OutcomeKind.OK, True),
        ([None, None, None, None, "1@t", "1@t"], OutcomeKind.OK, False),
        ([None] * 6, OutcomeKind.TIMEOUT, False),
        ([None] * 2, OutcomeKind.OK, False),
        ([], OutcomeKind.OK, False),
    ],
)
def test_when_commits_flow(waits, kind, flows):
    """The one that waits at each look, half a second apart, up to now."""
    first = 10 - len(waits) / 2
    seen = [
        outcome("pg1", first + n / 2, kind, waits={} if wait is None else {"sync": wait})
        for n, wait in enumerate(waits, 1)
    ]

    assert commits_flow(seen, "pg1", at(10)) is flows
