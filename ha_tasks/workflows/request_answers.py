"""Answers to other services, as plain JSON: ``ha_tasks/contract/recovery-answer.schema.json``. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ha_tasks.model.plain import Json
from ha_tasks.model.playbook import Plan
from ha_tasks.model.request import VERSION, AnswerState, Wrong
from ha_tasks.model.run import TERMINAL, Run

_OPEN = (AnswerState.RECEIVED,)


def answer(
    state: AnswerState,
    *,
    incident: int | None = None,
    duplicate: bool = False,
    refused: Json | None = None,
    errors: Iterable[Wrong] = (),
    plan: Json | None = None,
) -> Json:
    """An answer without a run."""
    return {
        "v": VERSION,
        "run": None,
        "incident": incident,
        "state": str(state),
        "ended": state not in _OPEN,
        "duplicate": duplicate,
        "refused": refused,
        "errors": [wrong.to_json() for wrong in errors],
        "plan": plan,
    }


def of_run(run: Run) -> Json:
    """The answer that a run gives: where it is by now."""
    return {
        "v": VERSION,
        "run": run.id,
        "incident": run.incident,
        "state": str(run.state),
        "ended": run.state in TERMINAL,
        "duplicate": False,
        "refused": None,
        "errors": [],
        "plan": None,
        "service": run.plan.service,
        "playbook": run.plan.playbook,
        "error": run.error,
        "created_at": run.created_at.isoformat(),
        "ended_at": None if run.ended_at is None else run.ended_at.isoformat(),
        "steps": [{"no": step.no, "id": step.planned.id, "state": str(step.state)} for step in run.steps],
    }


def planned(plan: Plan) -> Json:
    """The plan of a dry run."""
    return {
        "service": plan.service,
        "targets": list(plan.targets),
        "playbook": plan.playbook,
        "version": plan.version,
        "sha256": plan.sha256,
        "recovery_type": str(plan.recovery_type),
        "summary": plan.summary,
        "steps": [
            {
                "no": step.no,
                "id": step.id,
                "action": str(step.action),
                "args": dict(step.args),
                "undo": str(step.undo),
                "timeout_s": step.timeout_s,
                "attempts": step.attempts,
                "point_of_no_return": step.point_of_no_return,
            }
            for step in plan.steps
        ],
    }
