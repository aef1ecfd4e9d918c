"""Runs and their steps as rows, and back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, select, update

from ha_tasks.model.plain import Json
from ha_tasks.model.playbook import Plan
from ha_tasks.model.run import TERMINAL, Phase, Run, RunState, Step, StepState
from ha_tasks.store.plans import plan_from_json
from ha_tasks.store.tables import step as steps


def load(connection: Connection, query: Select[Any]) -> tuple[Run, ...]:
    """The runs that the query (over all columns of ``run``) finds, in its order, with their steps."""
    found = connection.execute(query).all()
    if not found:
        return ()
    mine: dict[int, list[Row[Any]]] = defaultdict(list)
    of_these = select(steps).where(steps.c.run.in_([row.id for row in found]))
    for row in connection.execute(of_these.order_by(steps.c.run, steps.c.no)):
        mine[row.run].append(row)
    return tuple(run_of(row, mine[row.id]) for row in found)


def run_of(row: Row[Any], of_steps: Sequence[Row[Any]]) -> Run:
    """The run of a row and the rows of its steps."""
    plan = plan_from_json(row.plan)
    return Run(
        id=row.id,
        incident=row.incident,
        plan=plan,
        state=RunState(row.state),
        phase=Phase(row.phase),
        position=row.position,
        fence=row.fence,
        steps=tuple(_step_of(plan, step) for step in of_steps),
        mode=row.mode,
        requested_by=row.requested_by,
        reason=row.reason,
        created_at=row.created_at,
        updated_at=row.updated_at,
        lease_owner=row.lease_owner,
        lease_until=row.lease_until,
        ended_at=row.ended_at,
        error=row.error,
        revision=row.revision,
        approval_until=row.approval_until,
        approved_by=row.approved_by,
        deadline=row.deadline,
    )


def _step_of(plan: Plan, row: Row[Any]) -> Step:
    return Step(
        planned=plan.steps[row.no - 1],
        state=StepState(row.state),
        attempts=row.attempts,
        captured=row.captured,
        output=row.output,
        error=row.error,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )


def progress(run: Run) -> Mapping[str, Any]:
    """The columns of ``run`` that moves change. A run in a terminal state has an end."""
    ended_at = (run.ended_at or run.updated_at) if run.state in TERMINAL else None
    return {
        "state": str(run.state),
        "phase": str(run.phase),
        "position": run.position,
        "error": run.error,
        "updated_at": run.updated_at,
        "ended_at": ended_at,
    }


def new_step(run: int, step: Step) -> Json:
    """The row of a step that nobody has taken up."""
    return {"run": run, "no": step.no, "action": str(step.action), **_step_progress(step)}


def _step_progress(step: Step) -> Json:
    return {
        "state": str(step.state),
        "attempts": step.attempts,
        "output": step.output,
        "error": step.error,
        "started_at": step.started_at,
        "ended_at": step.ended_at,
    }


def write_steps(connection: Connection, before: Run, after: Run) -> None:
    """Writes the steps that differ, all but what was captured: only ``capture`` writes that."""
    for old, new in zip(before.steps, after.steps, strict=True):
        if old != new:
            where = (steps.c.run == after.id) & (steps.c.no == new.no)
            connection.execute(update(steps).where(where).values(_step_progress(new)))
