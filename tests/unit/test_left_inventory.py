"""Incidents about what is not in the inventory any more."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ha_tasks.model.incident import IncidentKind, IncidentState, incident_key
from ha_tasks.workflows.left_inventory import LeftInventory
from tests.fakes.clock import FakeClock
from tests.fakes.repositories import FakeIncidents
from tests.unit.builders import database, platform, web

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def incidents():
    return FakeIncidents()


def opened(incidents, instance, kind=IncidentKind.STANDBY_DOWN, service="db", state=None):
    made, _ = incidents.open(
        key=incident_key(service, instance, kind),
        service=service,
        instance=instance,
        kind=kind,
        severity="warning",
        summary="gone",
        fault_at=NOW,
        now=NOW,
        actor="test",
        evidence={},
    )
    if state is not None:
        incidents.move(made.id, state, NOW, "test", "so it is")
    return made.id


def look(incidents, *services, held=None):
    watch = LeftInventory(
        platform=platform(*services),
        incidents=incidents,
        clock=FakeClock(),
        actor="test",
        held=lambda: held,
    )
    watch.look()
    watch.look()


WAITS = [None, IncidentState.BLOCKED, IncidentState.SUPPRESSED, IncidentState.MITIGATED]


@pytest.mark.parametrize("state", WAITS)
def test_the_failure_of_a_node_that_was_taken_out_is_over_and_says_why_once(incidents, state):
    gone = opened(incidents, "pg4", state=state)
    here = opened(incidents, "pg2", state=state)

    look(incidents, database())

    assert incidents.get(gone).state is IncidentState.RESOLVED
    assert incidents.get(here).state is (state or IncidentState.OPEN)
    told = [line.text for line in incidents.timeline(gone)]
    assert sum("pg4 is not in the inventory any more" in text for text in told) == 1


def test_what_a_person_was_called_for_stays_told_and_lets_its_key_go(incidents):
    gone = opened(incidents, "pg4", state=IncidentState.ESCALATED)

    look(incidents, database())

    found = incidents.get(gone)
    assert (found.state, found.holds_key) == (IncidentState.ESCALATED, False)


@pytest.mark.parametrize("kind", IncidentKind)
def test_with_its_service_every_incident_goes(incidents, kind):
    gone = opened(incidents, "pg1", kind)

    look(incidents, web())

    assert incidents.get(gone).state is IncidentState.RESOLVED


@pytest.mark.parametrize("kind", [IncidentKind.PRIMARY_DOWN, IncidentKind.MEMBER_NOT_STREAMING])
def test_what_is_no_matter_of_one_instance_of_ours_stays(incidents, kind):
    there = opened(incidents, "pg4", kind)

    look(incidents, database())

    assert incidents.get(there).state is IncidentState.OPEN


def test_a_run_is_left_to_its_incident(incidents):
    there = opened(incidents, "pg4", state=IncidentState.RECOVERING)

    look(incidents, database())

    assert incidents.get(there).state is IncidentState.RECOVERING


def test_a_process_with_an_older_inventory_ends_nothing(incidents):
    there = opened(incidents, "pg4")

    look(incidents, database(), held="another revision counts")

    assert incidents.get(there).state is IncidentState.OPEN


def test_an_instance_of_the_same_name_elsewhere_does_not_count(incidents):
    other = replace(web(), name="shop")
    gone = opened(incidents, "pg1", IncidentKind.INSTANCE_DOWN, service="shop")

    look(incidents, other, database())

    assert incidents.get(gone).state is IncidentState.RESOLVED
