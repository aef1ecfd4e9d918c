"""``ha-tasks plan``: what a recovery of a service would do now. Reads only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from ha_tasks.cli.lines import BAD, DIM, GOOD, HEAD, Line, columns, span
from ha_tasks.cli.session import Session, pass_session, with_home, with_json
from ha_tasks.errors import UsageError
from ha_tasks.model.fault import closest
from ha_tasks.model.guards import Refusal, refusal
from ha_tasks.model.incident import ENDED, Incident, IncidentKind, IncidentState, incident_key
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Platform, Service, ServiceKind
from ha_tasks.model.playbook import Plan, PlannedStep
from ha_tasks.model.verdict import VerdictState
from ha_tasks.ports.action import Action, StepContext

if TYPE_CHECKING:
    from ha_tasks.bootstrap import System


@click.command("plan")
@click.argument("service")
@click.option("--instance", help="Which instance is taken for down (else the open incident's, or the first).")
@with_home
@with_json
@pass_session
def command(session: Session, service: str, instance: str | None) -> None:
    """What a recovery of SERVICE would do now, step by step, and which guard would refuse it.

    About the open incident of the service; without one, about the failure of its primary or first
    instance. Changes nothing.
    """
    system = session.system()
    about = service_of(system.platform, service)
    now = system.clock.now()
    incident = subject(about, system.store.incidents.current(), _primary(system, about), instance, now)
    made = system.planner.create_recovery_plan(incident)
    session.result(
        described(about, incident, made, system.actions, _refusal(system, about, incident, made)), lines
    )


def service_of(platform: Platform, name: str) -> Service:
    """The service of that name; UsageError with the nearest one."""
    if name not in platform.services:
        raise UsageError(f'there is no service "{name}"; {closest(name, platform.services)}')
    return platform.services[name]


def _primary(system: System, service: Service) -> str | None:
    return system.detection.primary_of(service)


def _refusal(system: System, service: Service, incident: Incident, plan: Plan) -> Refusal | None:
    """The guard that would say no at this moment."""
    verdicts = system.detection.judge([service])
    blind = any(verdict.state is VerdictState.BLIND for verdict in verdicts)
    return refusal(system.guards.gather(incident, plan, blind=blind, verdicts=verdicts))


def subject(
    service: Service,
    current: Sequence[Incident],
    primary: str | None,
    instance: str | None,
    now: datetime,
) -> Incident:
    """The incident that is planned for: the open one, else one that has not happened (``id`` 0)."""
    names = [each.name for each in service.instances]
    if instance is not None and instance not in names:
        raise UsageError(f'{service.name} has no instance "{instance}"; {closest(instance, names)}')
    standing = [i for i in current if i.service == service.name and i.state not in ENDED]
    for incident in standing:
        if instance in (None, incident.instance):
            return incident
    about = instance or primary or names[0]
    kind = _kind(service, about, primary)
    return Incident(
        id=0,
        key=incident_key(service.name, about, kind),
        service=service.name,
        instance=about,
        kind=kind,
        state=IncidentState.SUSPECT,
        severity="warning",
        summary=f"{about} of {service.name} is taken for down",
        fault_at=now,
        detected_at=now,
    )


def _kind(service: Service, instance: str, primary: str | None) -> IncidentKind:
    if service.kind is not ServiceKind.POSTGRES:
        return IncidentKind.INSTANCE_DOWN
    return IncidentKind.PRIMARY_DOWN if instance == (primary or instance) else IncidentKind.STANDBY_DOWN


def described(
    service: Service,
    incident: Incident,
    plan: Plan,
    actions: Mapping[str, Action],
    refused: Refusal | None,
) -> Json:
    """The plan as plain JSON, each step with what its action says that it would change."""
    return {
        "service": service.name,
        "incident": incident.id or None,
        "kind": str(incident.kind),
        "targets": list(plan.targets),
        "playbook": plan.playbook,
        "version": plan.version,
        "sha256": plan.sha256,
        "recovery_type": str(plan.recovery_type),
        "summary": plan.summary,
        "refused": None if refused is None else {"guard": str(refused.guard), "detail": refused.detail},
        "steps": [
            _step(step, actions[step.action].plan(_context(service, incident, plan, step)))
            for step in plan.steps
        ],
    }


def _step(step: PlannedStep, change: str) -> Json:
    return {
        "no": step.no,
        "id": step.id,
        "action": str(step.action),
        "args": dict(step.args),
        "change": change,
        "undo": str(step.undo),
        "timeout_s": step.timeout_s,
        "attempts": step.attempts,
        "point_of_no_return": step.point_of_no_return,
    }


def _context(service: Service, incident: Incident, plan: Plan, step: PlannedStep) -> StepContext:
    """What an action is given to say what it would do: no run, no lease, so nothing that it could do."""
    return StepContext(
        run=0,
        step=step.no,
        key="plan",
        service=service,
        incident=incident,
        args=step.args,
        captured={},
        outputs={},
        fence=0,
        verify=plan.verify,
        remaining_s=lambda: step.timeout_s,
        lost=lambda: False,
    )


def lines(content: Json) -> Iterator[Line]:
    """The plan as one reads it before it runs."""
    about = f"for I-{content['incident']}" if content["incident"] else "for a failure that has not happened"
    yield [
        (content["playbook"], HEAD),
        f" v{content['version']} {about}: {content['kind']} of "
        f"{content['service']}, target {', '.join(content['targets'])}",
    ]
    yield [(f"sha256 {content['sha256'][:12]}, recovery type {content['recovery_type']}", DIM)]
    yield []
    yield from columns(
        ["STEP", "", "WHAT IT WOULD DO", "LIMIT", "ON THE WAY BACK"],
        [
            [str(s["no"]), s["id"], s["change"], f"{s['attempts']} x {span(s['timeout_s'])}", _back(s)]
            for s in content["steps"]
        ],
    )
    yield []
    refused = content["refused"]
    if refused is None:
        yield [("no guard would refuse it now", GOOD)]
    else:
        yield [(f"refused now by {refused['guard']}", BAD), f": {refused['detail']}"]


def _back(step: Json) -> str:
    if step["point_of_no_return"]:
        return "no way back from here"
    return "kept" if step["undo"] == "keep" else "undone"
