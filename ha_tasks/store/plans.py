"""Plans and synchronous sets as JSON and back. What is written today must be readable for ever."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from ha_tasks.model.cluster import SyncSet, Unfinished
from ha_tasks.model.plain import Json
from ha_tasks.model.playbook import (
    Acceptance,
    Approval,
    GuardSettings,
    Plan,
    PlannedStep,
    UndoPolicy,
    VerifySettings,
)
from ha_tasks.names import RecoveryType, action_named


def plan_to_json(plan: Plan) -> Json:
    """The plan as plain JSON; ``plan_from_json`` gives back an equal plan."""
    return {
        "service": plan.service,
        "scope": plan.scope,
        "playbook": plan.playbook,
        "version": plan.version,
        "sha256": plan.sha256,
        "recovery_type": str(plan.recovery_type),
        "targets": list(plan.targets),
        "steps": [_step_to_json(step) for step in plan.steps],
        "guards": asdict(plan.guards),
        "verify": asdict(plan.verify),
        "mitigates": plan.mitigates,
        "summary": plan.summary,
        "situation": plan.situation,
        "accepts": None if plan.accepts is None else asdict(plan.accepts),
    }


def order_of(plan: Plan) -> Json:
    """What two requests under one key must agree in: all but the situation, which the run itself changes,
    and what may be lost, which is judged anew with each request.
    """
    return {k: value for k, value in plan_to_json(plan).items() if k not in ("situation", "accepts")}


def plan_from_json(body: Json) -> Plan:
    """The plan of that JSON; settings that it does not name yet have their defaults."""
    return Plan(
        service=body["service"],
        scope=body["scope"],
        playbook=body["playbook"],
        version=body["version"],
        sha256=body["sha256"],
        recovery_type=RecoveryType(body["recovery_type"]),
        targets=tuple(body["targets"]),
        steps=tuple(_step_from_json(step) for step in body["steps"]),
        guards=_guards_from_json(body["guards"]),
        verify=VerifySettings(**body["verify"]),
        mitigates=body["mitigates"],
        summary=body["summary"],
        situation=body.get("situation", {}),
        accepts=_acceptance_from_json(body.get("accepts")),
    )


def _acceptance_from_json(body: Json | None) -> Acceptance | None:
    return None if body is None else Acceptance(**{**body, "off": tuple(body["off"])})


def _guards_from_json(body: Json) -> GuardSettings:
    return GuardSettings(**{**body, "approval": Approval(body.get("approval", Approval.NEVER))})


def _step_to_json(step: PlannedStep) -> Json:
    return {
        "no": step.no,
        "id": step.id,
        "action": str(step.action),
        "args": step.args,
        "undo": str(step.undo),
        "timeout_s": step.timeout_s,
        "attempts": step.attempts,
        "point_of_no_return": step.point_of_no_return,
        "provider": step.provider,
    }


def _step_from_json(body: Json) -> PlannedStep:
    return PlannedStep(
        no=body["no"],
        id=body["id"],
        action=action_named(body["action"]),
        args=body["args"],
        undo=UndoPolicy(body["undo"]),
        timeout_s=body["timeout_s"],
        attempts=body["attempts"],
        point_of_no_return=body["point_of_no_return"],
        provider=body.get("provider", ""),
    )


def sets_to_json(sets: Iterable[SyncSet]) -> list[Json]:
    """Recorded sets as plain JSON."""
    return [{"quorum": s.quorum, "members": list(s.members)} for s in sets]


def sets_from_json(body: Iterable[Json]) -> tuple[SyncSet, ...]:
    """The sets of that JSON."""
    return tuple(SyncSet(quorum=s["quorum"], members=tuple(s["members"])) for s in body)


def unfinished_to_json(unfinished: Iterable[Unfinished]) -> list[Json]:
    """Unfinished promotions as plain JSON."""
    return [
        {
            "epoch": u.epoch,
            "candidate": u.candidate,
            "sync_set": sets_to_json([u.sync_set])[0],
            "timeline": u.timeline,
        }
        for u in unfinished
    ]


def unfinished_from_json(body: Iterable[Json]) -> tuple[Unfinished, ...]:
    """The unfinished promotions of that JSON."""
    return tuple(
        Unfinished(
            epoch=u["epoch"],
            candidate=u["candidate"],
            sync_set=sets_from_json([u["sync_set"]])[0],
            timeline=u.get("timeline", 0),
        )
        for u in body
    )
