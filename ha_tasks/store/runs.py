"""Runs and their steps as rows, and back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Row, Select

from ha_tasks.errors import StaleFence
from ha_tasks.model.plain import Json
from ha_tasks.model.playbook import Plan
from ha_tasks.model.run import TERMINAL, Phase, Run, RunState, Step, StepState
from ha_tasks.store.plans import plan_from_json
from ha_tasks.store.step_statements import HOLDING, STEPS_OF


def load(
    connection: Connection, query: Select[Any], values: Mapping[str, Any] = MappingProxyType({})
) -> tuple[Run, ...]:
    """The runs that the query (over all columns of ``run``) finds, in its order, with their steps."""
    found = connection.execute(query, values).all()
    if not found:
        return ()
    mine: dict[int, list[Row[Any]]] = defaultdict(list)
    for row in connection.execute(STEPS_OF, {"runs": [row.id for row in found]}):
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


def changed_steps(before: Run, after: Run) -> list[Step]:
    """Those that differ; the current one when none does, which writes what is there already."""
    return [n for o, n in zip(before.steps, after.steps, strict=True) if o != n] or [after.current]


def step_values(step: Step) -> Mapping[str, Any]:
    """Of the statements of a step, all but what was captured: only ``capture`` writes that."""
    return {"s_no": step.no, **{f"s_{name}": value for name, value in _step_progress(step).items()}}


def run_values(run: Run) -> Mapping[str, Any]:
    """Of the statements of a step: which run it is, and how far it is."""
    return {"r_id": run.id, **{f"r_{name}": value for name, value in progress(run).items()}}


def must_hold(connection: Connection, run: int, fence: int) -> None:
    """Locks the run's row until the transaction ends. Raises StaleFence when the lease is another's."""
    if connection.execute(HOLDING, {"r_id": run, "r_fence": fence}).scalar() is None:
        raise stale(run, fence)


def stale(run: int, fence: int) -> StaleFence:
    """What a late executor is told."""
    return StaleFence(f"fence {fence} is no longer that of run {run}")
