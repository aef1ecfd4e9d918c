"""RecoveryPlanner: which playbook, which steps, in which order."""

from __future__ import annotations

import graphlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ha_tasks.disaster_recovery.playbooks import load_playbooks
from ha_tasks.disaster_recovery.recovery_planner import RecoveryPlanner, in_order
from ha_tasks.errors import PlaybookError
from ha_tasks.inventory import load
from ha_tasks.model.incident import Incident, IncidentKind, IncidentState, incident_key
from ha_tasks.model.platform import ManagedBy, Platform
from ha_tasks.model.playbook import Playbook, PlaybookStep, UndoPolicy
from ha_tasks.names import ActionName, RecoveryType
from tests.unit.inventory_files import write_inventory

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return load(write_inventory(tmp_path), {}).platform


@pytest.fixture
def http() -> Playbook:
    return next(p for p in load_playbooks() if p.name == "http-instance")


def incident(service: str, instance: str, kind: IncidentKind) -> Incident:
    return Incident(
        id=7,
        key=incident_key(service, instance, kind),
        service=service,
        instance=instance,
        kind=kind,
        state=IncidentState.OPEN,
        severity="critical",
        summary="it is down",
        fault_at=NOW,
        detected_at=NOW,
    )


WEB1 = incident("web", "web1", IncidentKind.INSTANCE_DOWN)
PG1 = incident("db", "pg1", IncidentKind.PRIMARY_DOWN)


@pytest.mark.parametrize(
    ("about", "playbook"),
    [
        (WEB1, "http-instance"),
        (PG1, "postgres-failover"),
        (incident("db", "pg2", IncidentKind.STANDBY_DOWN), "postgres-rejoin"),
    ],
)
def test_the_shipped_playbook_for_an_incident_is_found(platform: Platform, about: Incident, playbook: str):
    assert RecoveryPlanner(platform, load_playbooks()).match(about).name == playbook


def test_the_most_specific_playbook_wins_then_the_higher_priority(platform: Platform, http: Playbook):
    anything = replace(http, name="anything", match=replace(http.match, kind=None), priority=9)
    important = replace(http, name="important", priority=1)
    of_web = replace(http, name="of-web", match=replace(http.match, kind=None, service="web"))
    of_db = replace(http, name="of-db", match=replace(http.match, service="db"), priority=99)

    def best(*playbooks: Playbook) -> str:
        return RecoveryPlanner(platform, playbooks).match(WEB1).name

    assert best(anything, http) == "http-instance"
    assert best(http, important, anything) == "important"
    assert best(important, of_web, anything, of_db) == "of-web"


def test_a_plan_has_every_step_in_order_and_verification_last(platform: Platform):
    plan = RecoveryPlanner(platform, load_playbooks()).create_recovery_plan(WEB1)

    assert [(step.no, step.id) for step in plan.steps] == [
        (1, "take_out"),
        (2, "spare_in"),
        (3, "restart_instance"),
        (4, "put_back"),
        (5, "spare_out"),
        (6, "verify_service"),
    ]
    last = plan.steps[-1]
    assert (last.action, last.undo) == (ActionName.VERIFY_SERVICE, UndoPolicy.KEEP)
    assert last.timeout_s > plan.verify.within_s


def test_a_plan_is_about_the_instance_and_holds_the_whole_service(platform: Platform):
    plan = RecoveryPlanner(platform, load_playbooks()).create_recovery_plan(PG1)

    assert (plan.service, plan.scope, plan.targets) == ("db", "db", ("pg1",))
    assert plan.recovery_type is RecoveryType.FAILOVER
    assert plan.mitigates
    assert len(plan.sha256) == 64
    assert plan.summary.startswith("postgres-failover v1 for pg1: fence the primary")


def test_arguments_are_looked_up_in_the_incident(platform: Platform, http: Playbook):
    step = replace(
        http.steps[0], args={"x": "${incident.service}/${incident.instance}", "k": "${incident.kind}"}
    )
    planner = RecoveryPlanner(platform, [replace(http, steps=(step,))])

    assert planner.create_recovery_plan(WEB1).steps[0].args == {"x": "web/web1", "k": "instance_down"}


def test_an_incident_without_an_instance_has_no_target(platform: Platform):
    about = replace(WEB1, instance="")

    assert RecoveryPlanner(platform, load_playbooks()).create_recovery_plan(about).targets == ()


def test_a_kind_of_service_without_a_playbook_is_told(platform: Platform):
    about = incident("cache", "cache1", IncidentKind.INSTANCE_DOWN)

    with pytest.raises(PlaybookError, match=r"no playbook is for instance_down of cache \(redis\); recover"):
        RecoveryPlanner(platform, load_playbooks()).match(about)


@pytest.mark.parametrize("other", [ManagedBy.PATRONI, ManagedBy.EXTERNAL])
def test_what_others_manage_is_never_planned_for(platform: Platform, other: ManagedBy):
    db = replace(platform.services["db"], managed_by=other)
    theirs = replace(platform, services={**platform.services, "db": db})

    with pytest.raises(PlaybookError, match=r"db is led by .*: it is watched here, never acted on"):
        RecoveryPlanner(theirs, load_playbooks()).create_recovery_plan(PG1)


def test_a_service_that_left_the_inventory_is_told(platform: Platform):
    about = incident("old", "old1", IncidentKind.INSTANCE_DOWN)

    with pytest.raises(PlaybookError, match="old is not in the inventory any more"):
        RecoveryPlanner(platform, load_playbooks()).create_recovery_plan(about)


def steps(**needs: str) -> list[PlaybookStep]:
    return [
        PlaybookStep(id=name, action=ActionName.TAKE_OUT, needs=tuple(wanted.split()))
        for name, wanted in needs.items()
    ]


@pytest.mark.parametrize(
    ("given", "ordered"),
    [
        ({"a": "", "b": "", "c": ""}, "abc"),
        ({"a": "c", "b": "", "c": ""}, "bca"),
        ({"a": "b c", "b": "d", "c": "", "d": ""}, "cdba"),
    ],
)
def test_steps_stand_in_the_order_of_the_file_as_far_as_needs_allow(given: dict[str, str], ordered: str):
    assert "".join(step.id for step in in_order(steps(**given))) == ordered


def test_a_circle_has_no_order():
    with pytest.raises(graphlib.CycleError):
        in_order(steps(a="b", b="a"))
