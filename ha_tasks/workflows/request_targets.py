"""What a request of another service aims at: which instance, as which kind of failure. Pure.

Evidence that comes with a request never outvotes our own verdicts: promoting on hearsay, while the
primary answers us, is how split brains are made (docs/adr/0016-the-contract.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ha_tasks.model.fault import closest
from ha_tasks.model.incident import IncidentKind
from ha_tasks.model.platform import Service, ServiceKind
from ha_tasks.model.request import DeskRule, RecoveryRequest, RequestKind, Wrong
from ha_tasks.model.verdict import Verdict, VerdictState

FAILOVER, RESTART, REJOIN = RequestKind.FAILOVER, RequestKind.RESTART, RequestKind.REJOIN
WITH_PLAYBOOKS = (FAILOVER, RESTART, REJOIN)
DOUBTFUL = (VerdictState.SUSPECT, VerdictState.FLAPPING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """The instance, and the failure that it is treated as; ``verdict``: ours on it, None: none yet."""

    instance: str
    kind: IncidentKind
    verdict: Verdict | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """The desk's own no."""

    rule: DeskRule
    detail: str


def without_playbook(asked: RecoveryRequest, service: Service) -> Denied | None:
    """What no playbook could be for, whatever the state of the service."""
    postgres = service.kind is ServiceKind.POSTGRES
    fits = {FAILOVER: postgres, REJOIN: postgres, RESTART: not postgres}
    if fits.get(asked.kind, False):
        return None
    able = ", ".join(kind for kind, fit in fits.items() if fit)
    detail = f"no playbook is for {asked.kind} of {service.name} ({service.kind}); there is: {able}"
    return Denied(rule=DeskRule.NO_PLAYBOOK, detail=detail)


def aim(
    asked: RecoveryRequest, service: Service, primary: str | None, verdicts: Sequence[Verdict]
) -> Aim | Denied | Wrong:
    """Where a request leads that ``without_playbook`` has let through. ``primary``: the recorded one."""
    names = [each.name for each in service.instances]
    if asked.scope is not None and asked.scope not in names:
        mending = closest(asked.scope, names)
        return Wrong(field="scope", problem=f"{service.name} has no such instance", mending=mending)
    of = {v.target.instance: v for v in verdicts if v.target.service == service.name}
    match asked.kind:
        case RequestKind.FAILOVER:
            return _failover(asked, service, primary, of)
        case RequestKind.REJOIN:
            return _rejoin(asked, names, primary, of)
        case _:
            return _restart(asked, names, of)


def _failover(
    asked: RecoveryRequest, service: Service, primary: str | None, of: Mapping[str, Verdict]
) -> Aim | Denied | Wrong:
    if primary is None:
        detail = f"no primary of {service.name} is recorded; take it into care with: ha-tasks adopt"
        return Denied(rule=DeskRule.TARGET_IN_DOUBT, detail=detail)
    if asked.scope not in (None, primary):
        problem = "is not the primary: what fails over is the cluster"
        return Wrong(field="scope", problem=problem, mending=f"leave it out, or write {primary}")
    doubt = _doubt(of.get(primary), f"{primary} answers: a planned change is a switchover")
    return doubt or Aim(instance=primary, kind=IncidentKind.PRIMARY_DOWN, verdict=of.get(primary))


def _rejoin(
    asked: RecoveryRequest, names: Sequence[str], primary: str | None, of: Mapping[str, Verdict]
) -> Aim | Denied | Wrong:
    others = [name for name in names if name != primary]
    instance = asked.scope or _only_failed(others, of)
    if instance is None:
        return _which(others)
    if instance == primary:
        return Wrong(field="scope", problem="is the primary", mending=f"one of {', '.join(others)}")
    doubt = _doubt(of.get(instance), f"{instance} follows already")
    return doubt or Aim(instance=instance, kind=IncidentKind.STANDBY_DOWN, verdict=of.get(instance))


def _restart(asked: RecoveryRequest, names: Sequence[str], of: Mapping[str, Verdict]) -> Aim | Wrong:
    """One that is well may be restarted too, for instance one after the other by a deployment."""
    instance = asked.scope or _only_failed(names, of)
    if instance is None:
        return _which(names)
    return Aim(instance=instance, kind=IncidentKind.INSTANCE_DOWN, verdict=of.get(instance))


def _doubt(verdict: Verdict | None, healthy: str) -> Denied | None:
    """A verdict that forbids what is only for the dead. Too few vantages: that is for the guards to say."""
    if verdict is not None and verdict.state is VerdictState.HEALTHY:
        return Denied(rule=DeskRule.TARGET_ANSWERS, detail=healthy)
    if verdict is not None and verdict.state in DOUBTFUL:
        detail = (
            f"{verdict.target.instance} is {verdict.state} ({verdict.evidence}); ask again with a new key"
        )
        return Denied(rule=DeskRule.TARGET_IN_DOUBT, detail=detail)
    return None


def _only_failed(names: Sequence[str], of: Mapping[str, Verdict]) -> str | None:
    failed = [name for name in names if name in of and of[name].state is VerdictState.FAILED]
    return failed[0] if len(failed) == 1 else None


def _which(names: Sequence[str]) -> Wrong:
    problem = "is missing, and not exactly one instance has failed"
    return Wrong(field="scope", problem=problem, mending=f"one of {', '.join(names)}")
