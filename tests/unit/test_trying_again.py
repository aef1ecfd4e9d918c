"""What was about a standby and failed for good is begun again by itself, a few times, and then given up."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from ha_tasks.errors import ActionFailed, AgentUnreachable
from ha_tasks.model.incident import ENDED, IncidentKind, IncidentState
from ha_tasks.model.probe import OutcomeKind
from ha_tasks.model.run import RunState
from ha_tasks.model.trying_again import FIRST_AFTER, TRIES, wait_before
from tests.unit.builders import database
from tests.unit.guarded_world import GuardedWorld
from tests.unit.test_rejoin_waits import PRIMARY, STANDBY, crash, lose

GONE = AgentUnreachable("connection refused")
LONGEST = wait_before(TRIES - 1)


@pytest.fixture
def world():
    made = GuardedWorld(database(), cooldown_s=0.0)
    made.cluster()
    made.health.facts |= {"pg1": PRIMARY, "pg2": STANDBY, "pg3": STANDBY}
    made.rounds(4)
    return made


def died_midway(world):
    """pg3's PostgreSQL crashes, its rejoin is begun, and then its host is gone."""
    crash(world, "pg3")
    world.rounds(4)
    world.actions["rejoin_node"].fail = [GONE] * 20
    world.drive()
    lose(world, "pg3")
    world.rounds(2)
    incident = world.of("db")
    assert (incident.kind, incident.state) == (IncidentKind.STANDBY_DOWN, IncidentState.ESCALATED)
    return incident


def later(world, by=FIRST_AFTER):
    world.clock.advance(by.total_seconds())
    world.rounds(4)


def fail_again(world, error, by=LONGEST):
    world.actions["rejoin_node"].fail = [error] * 20
    later(world, by)
    world.drive()
    world.rounds(1)


def test_a_rejoin_whose_host_died_midway_is_begun_again_once_the_host_is_back(world):
    incident = died_midway(world)
    later(world)
    assert world.of("db").state is IncidentState.ESCALATED, "its host is away"

    crash(world, "pg3")
    world.rounds(4)
    assert [r.state for r in world.runs] == [RunState.PENDING, RunState.ROLLED_BACK]
    assert world.of("db").id == incident.id

    world.drive()
    assert world.of("db").state is IncidentState.RESOLVED
    told = [line for line in world.story(incident) if "begun again" in line]
    assert told == [f"open: begun again by itself (1 of {TRIES}), for run 1 failed and pg3 answers"]


def test_not_at_once_because_what_was_in_the_way_may_still_be(world):
    died_midway(world)
    crash(world, "pg3")
    world.rounds(4)

    assert len(world.runs) == 1


def test_it_is_given_up_in_the_end_and_says_what_a_person_can_do(world):
    incident = died_midway(world)
    crash(world, "pg3")
    for _ in range(TRIES + 2):
        fail_again(world, ActionFailed("No space left on device"))

    assert len(world.runs) == 1 + TRIES
    assert world.of("db").state is IncidentState.ESCALATED
    last = world.story(incident)[-1]
    assert last == (
        f"given up: it was begun again {TRIES} times; when the cause is mended: "
        f"ha-tasks ack I-{incident.id}, and it begins anew"
    )


def test_each_wait_is_longer_than_the_one_before():
    waits = [wait_before(n) for n in range(TRIES)]

    assert waits[0] == FIRST_AFTER
    assert all(b == 2 * a for a, b in pairwise(waits))
    assert sum(waits, timedelta()) < timedelta(minutes=30), "a host that was repaired is not left for hours"


def test_two_observers_begin_it_once(world):
    died_midway(world)
    crash(world, "pg3")
    world.clock.advance(FIRST_AFTER.total_seconds())
    world.rounds(4, [world.detection, world.observer("h2/other")])

    assert len(world.runs) == 2
    assert len([line for line in world.story(world.of("db")) if "begun again" in line]) == 1


def test_where_a_person_has_said_no_it_is_not_begun_again(world):
    died_midway(world)
    crash(world, "pg3")
    get = world.store.journal.get
    world.store.journal.get = lambda run: replace(get(run), state=RunState.ABORTED)
    later(world)

    assert len(world.runs) == 1


def test_while_the_store_is_held_nothing_is_begun_again(world):
    died_midway(world)
    crash(world, "pg3")
    world.detection._starter._held = lambda: "the store was restored"
    later(world)

    assert world.of("db").state is IncidentState.ESCALATED


def test_a_narrowing_that_failed_is_begun_again_although_the_member_is_away(world):
    """Until it is out the next failover is refused, and it is out of reach anyway."""
    lose(world, "pg3")
    world.health.facts["pg1"] = PRIMARY | {"standbys": ["pg2"]}
    world.actions["narrow_sync_set"].fail = [ActionFailed("a WAL sender does not end")]
    world.rounds(26)
    world.drive()
    world.rounds(1)
    narrow = next(i for i in world.incidents if i.kind is IncidentKind.SYNC_MEMBER_SILENT)
    assert narrow.state is IncidentState.ESCALATED

    world.clock.advance(FIRST_AFTER.total_seconds())
    world.rounds(26)
    assert [r.plan.playbook for r in world.runs] == ["postgres-narrow-set"] * 2


def test_a_failover_is_not_begun_again_by_this(world):
    world.actions["revoke_standbys"].fail = [ActionFailed("R + W <= N")]
    crash(world, "pg1")
    world.rounds(4)
    world.drive()
    later(world, LONGEST)

    assert world.of("db").state in ENDED
    assert len(world.runs) == 1


def test_what_is_healthy_again_is_not_begun_again(world):
    died_midway(world)
    world.health.kinds["pg3"], world.health.facts["pg3"] = OutcomeKind.OK, STANDBY
    later(world)

    assert len(world.runs) == 1
