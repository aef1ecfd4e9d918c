"""``ha-tasks plan``: what a recovery of a service would do now. Reads only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from ha_tasks.cli.session import Session, pass_session, with_home, with_json
from ha_tasks.errors import UsageError
from ha_tasks.model.fault import closest
from ha_tasks.model.guards import Guard, Refusal, refusal
from ha_tasks.model.incident import (
    ENDED,
    TOLD,
    Incident,
    IncidentKind,
    IncidentState,
    failures,
    incident_key,
)
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Platform, Service, ServiceKind
from ha_tasks.model.playbook import Plan
from ha_tasks.model.replication_findings import SEEN_ELSEWHERE, Finding
from ha_tasks.model.request import RequestKind
from ha_tasks.model.verdict import VerdictState

if TYPE_CHECKING:
    from ha_tasks.bootstrap import System

KINDS: Mapping[str, IncidentKind] = {
    **{str(kind): kind for kind in IncidentKind if kind not in TOLD},
    str(RequestKind.FAILOVER): IncidentKind.PRIMARY_DOWN,
    str(RequestKind.REJOIN): IncidentKind.STANDBY_DOWN,
    str(RequestKind.RESTART): IncidentKind.INSTANCE_DOWN,
}
"""Kinds of failure, and the words of the contract for what mends each."""


@click.command("plan")
@click.argument("service")
@click.option(
    "--kind",
    type=click.Choice(tuple(KINDS)),
    help="Kind of failure, or what mends it (else by the instance's role).",
)
@click.option("--instance", help="Which instance is taken for down (else the open incident's, or the first).")
@click.option("--playbook", metavar="NAME", help="This playbook (else the one that would be taken).")
@with_home
@with_json
@pass_session
def command(
    session: Session, service: str, kind: str | None, instance: str | None, playbook: str | None
) -> None:
    """What a recovery of SERVICE would do now, step by step, and which guard would refuse it.

    Each step with its difference (what is now -> what would be), its way back, and how long it usually
    takes here. About the open incident of the service; without one, about the failure of its primary or
    first instance. Changes nothing; the plan that was shown is kept in the home, so that
    `ha-tasks recover SERVICE --plan HASH` runs it and no other, or says what has changed.
    """
    from ha_tasks.cli.plan_view import lines
    from ha_tasks.cli.shown_plans import keep

    system = session.system()
    about = service_of(system.platform, service)
    incident = subject(
        about,
        system.store.incidents.current(),
        system.detection.primary_of(about),
        instance,
        system.clock.now(),
        kind=None if kind is None else KINDS[kind],
    )
    made = system.planner.create_recovery_plan(incident, playbook)
    keep(session.root, made)
    session.result(shown(system, about, incident, made), lines)


def service_of(platform: Platform, name: str) -> Service:
    """The service of that name; UsageError with the nearest one."""
    if name not in platform.services:
        raise UsageError(f'there is no service "{name}"; {closest(name, platform.services)}')
    return platform.services[name]


def shown(system: System, service: Service, incident: Incident, plan: Plan) -> Json:
    """The plan with its differences, its predicted duration and the guards that would refuse it now."""
    from ha_tasks.cli.plan_view import described
    from ha_tasks.workflows.preview import foretold, preview

    return described(
        service,
        incident,
        plan,
        steps=preview(plan, service, incident, system.actions),
        predicted=foretold(plan, system.store.journal, system.store.incidents),
        refused=refusals(system, service, incident, plan),
        beside=_beside(system, service),
    )


def _beside(system: System, service: Service) -> tuple[Finding, ...]:
    """What else is wrong about a PostgreSQL cluster and would keep a recovery from what it is for."""
    from ha_tasks.cli.replication_checks import bad_input

    if service.kind is not ServiceKind.POSTGRES:
        return ()
    found = bad_input(system.replication.check(service))
    return tuple(f for f in found if f.code not in SEEN_ELSEWHERE)


def refusals(system: System, service: Service, incident: Incident, plan: Plan) -> tuple[Refusal, ...]:
    """Every guard that would say no at this moment, in their order."""
    verdicts = system.detection.judge([service])
    blind = any(verdict.state is VerdictState.BLIND for verdict in verdicts)
    facts = system.guards.gather(incident, plan, blind=blind, verdicts=verdicts)
    found: dict[Guard, Refusal] = {}
    while (refused := refusal(facts, found.keys())) is not None:
        found[refused.guard] = refused
    return tuple(found.values())


def subject(
    service: Service,
    current: Sequence[Incident],
    primary: str | None,
    instance: str | None,
    now: datetime,
    *,
    kind: IncidentKind | None = None,
) -> Incident:
    """The incident that is planned for: the open one, else one that has not happened (``id`` 0)."""
    names = [each.name for each in service.instances]
    if instance is not None and instance not in names:
        raise UsageError(f'{service.name} has no instance "{instance}"; {closest(instance, names)}')
    standing = [i for i in failures(current) if i.service == service.name and i.state not in ENDED]
    for incident in standing:
        if instance in (None, incident.instance) and kind in (None, incident.kind):
            return incident
    about = instance or _taken_for_down(names, primary, kind)
    its_kind = kind or _kind(service, about, primary)
    return Incident(
        id=0,
        key=incident_key(service.name, about, its_kind),
        service=service.name,
        instance=about,
        kind=its_kind,
        state=IncidentState.SUSPECT,
        severity="warning",
        summary=f"{about} of {service.name} is taken for down",
        fault_at=now,
        detected_at=now,
    )


def _taken_for_down(names: Sequence[str], primary: str | None, kind: IncidentKind | None) -> str:
    if kind in (IncidentKind.STANDBY_DOWN, IncidentKind.SYNC_MEMBER_SILENT):
        return next((name for name in names if name != (primary or names[0])), names[0])
    return primary or names[0]


def _kind(service: Service, instance: str, primary: str | None) -> IncidentKind:
    if service.kind is not ServiceKind.POSTGRES:
        return IncidentKind.INSTANCE_DOWN
    return IncidentKind.PRIMARY_DOWN if instance == (primary or instance) else IncidentKind.STANDBY_DOWN
