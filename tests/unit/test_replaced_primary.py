"""The failure of a primary that has been replaced meanwhile: nothing is begun about it any more."""

from __future__ import annotations

import pytest

from ha_tasks.errors import NotSafe
from ha_tasks.model.cluster import sync_set_of
from ha_tasks.model.incident import IncidentKind, IncidentState
from ha_tasks.model.playbook import Acceptance
from tests.unit.builders import database
from tests.unit.guarded_world import GuardedWorld
from tests.unit.test_detection import REFUSED
from tests.unit.test_rejoin_waits import PRIMARY, STANDBY, crash, lose

WHY = "pg2 is the primary now, so the failure of pg1 is no failover's matter any more"


@pytest.fixture
def world():
    made = GuardedWorld(database(), cooldown_s=0.0)
    made.cluster()
    made.health.facts |= {"pg1": PRIMARY, "pg2": STANDBY, "pg3": STANDBY}
    made.rounds(4)
    return made


def replace_primary(world):
    """As a person's switchover or another run does: pg2 leads, pg1 stays away."""
    sets = [sync_set_of(["pg3"])]
    world.store.clusters.advance("db", 1, world.clock.now(), new_epoch=True, primary="pg2", sets=sets)
    world.health.facts["pg2"] = PRIMARY


def blocked(world):
    world.store.limits.cool("db", "postgres-failover", world.clock.now().replace(year=2100))
    lose(world, "pg1")
    world.rounds(4)
    incident = world.of("db")
    assert (incident.kind, incident.state) == (IncidentKind.PRIMARY_DOWN, IncidentState.BLOCKED)
    return incident


def escalated(world):
    world.actions["revoke_standbys"].fail = [NotSafe("R + W <= N")]
    lose(world, "pg1")
    world.rounds(4)
    world.drive()
    world.rounds(1)
    incident = world.of("db")
    assert (incident.kind, incident.state) == (IncidentKind.PRIMARY_DOWN, IncidentState.ESCALATED)
    return incident


def get(world, incident):
    return world.store.incidents.get(incident.id)


def kinds(world):
    return [(i.kind, i.instance) for i in world.incidents]


def test_one_that_was_blocked_is_closed_and_says_why_and_no_failover_is_begun(world):
    incident = blocked(world)
    replace_primary(world)
    world.store.limits.acknowledge("db", world.clock.now(), "anna")
    world.rounds(4)

    assert get(world, incident).state is IncidentState.RESOLVED
    assert world.story(incident)[-1].endswith(WHY)
    assert "postgres-failover" not in [r.plan.playbook for r in world.runs]
    assert kinds(world)[0] == (IncidentKind.STANDBY_DOWN, "pg1"), "it is a standby that is down, by now"


def test_one_that_waits_for_a_person_is_withdrawn():
    world = GuardedWorld(database(), cooldown_s=0.0, approval="always")
    world.cluster()
    world.health.facts |= {"pg1": PRIMARY, "pg2": STANDBY, "pg3": STANDBY}
    world.rounds(4)
    lose(world, "pg1")
    world.rounds(4)
    incident = world.of("db")
    assert incident.state is IncidentState.AWAITING_APPROVAL

    replace_primary(world)
    world.rounds(2)
    assert get(world, incident).state is IncidentState.RESOLVED
    assert [r.error for r in world.runs if r.incident == incident.id] == [WHY]


def test_one_that_was_escalated_lets_go_so_that_nobody_begins_it_again(world):
    incident = escalated(world)
    replace_primary(world)
    world.rounds(2)
    assert (get(world, incident).state, get(world, incident).holds_key) == (IncidentState.ESCALATED, False)
    assert world.story(incident)[-1].endswith(WHY)

    before = len(world.runs)
    world.detection.react(world.verdicts, asked_by="anna", accepts=Acceptance(bytes=1 << 30))
    assert [r.plan.playbook for r in world.runs[: len(world.runs) - before]] in ([], ["postgres-rejoin"])


def test_the_failure_of_the_new_primary_is_an_incident_of_its_own(world):
    incident = escalated(world)
    replace_primary(world)
    world.rounds(2)
    crash(world, "pg2")
    world.rounds(4)

    latest = world.of("db")
    assert latest.id != incident.id
    assert (latest.kind, latest.instance) == (IncidentKind.PRIMARY_DOWN, "pg2")


def test_a_failover_that_promoted_and_could_not_be_verified_still_calls_a_person(world):
    """It replaced the primary itself; whether the service writes is what could not be shown."""
    world.actions["verify_service"].fail = [NotSafe("no write through the balancer")] * 3
    lose(world, "pg1")
    world.rounds(4)
    world.drive()
    replace_primary(world)
    world.rounds(4)

    (incident,) = [i for i in world.incidents if i.kind is IncidentKind.PRIMARY_DOWN]
    assert (incident.state, incident.holds_key) == (IncidentState.ESCALATED, True)


def test_a_mitigated_one_waits_for_redundancy_as_before(world):
    lose(world, "pg1")
    world.rounds(4)
    world.drive()
    replace_primary(world)
    world.rounds(4)

    (incident,) = [i for i in world.incidents if i.kind is IncidentKind.PRIMARY_DOWN]
    assert incident.state is IncidentState.MITIGATED


def test_while_the_primary_is_the_same_nothing_is_closed(world):
    incident = blocked(world)
    world.health.kinds["pg1"] = REFUSED
    world.rounds(6)

    assert get(world, incident).state is IncidentState.BLOCKED
