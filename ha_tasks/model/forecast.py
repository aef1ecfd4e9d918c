"""How long a plan will take, by how long its steps and its playbook took on this installation before."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from ha_tasks.model.playbook import Plan
from ha_tasks.model.run import Run, RunState, Step, StepState


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Seconds that something took ``n`` times: the median, and what nine of ten stayed within."""

    n: int
    median_s: float
    p90_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """``steps``: by step id, None: it never ended well here. ``whole``: from the first failed probe to the
    verified end, of earlier runs of the playbook that succeeded. ``expected_s``: the median of those, else
    the sum of the steps' medians, a step without a history counting with its limit; ``guessed`` then.
    """

    steps: Mapping[str, Spread | None]
    whole: Spread | None
    expected_s: float
    limit_s: float
    guessed: bool


def spread(seconds: Iterable[float]) -> Spread | None:
    """None without any. The 90 % value is the smallest that nine of ten did not exceed (nearest rank)."""
    ordered = sorted(seconds)
    if not ordered:
        return None
    rank = math.ceil(0.9 * len(ordered)) - 1
    return Spread(n=len(ordered), median_s=statistics.median(ordered), p90_s=ordered[rank])


def forecast(plan: Plan, runs: Iterable[Run], fault_at: Mapping[int, datetime]) -> Forecast:
    """From earlier runs; ``fault_at``: when the failure of each incident began, by incident. Pure.

    A step is known by its playbook, id and action, whatever the playbook's version and the service were.
    """
    mine = [run for run in runs if run.plan.playbook == plan.playbook]
    steps = {s.id: spread(_durations(mine, s.id, s.action)) for s in plan.steps}
    whole = spread(_took(run, fault_at) for run in mine if run.state is RunState.SUCCEEDED)
    summed = sum(
        step.timeout_s if (known := steps[step.id]) is None else known.median_s for step in plan.steps
    )
    return Forecast(
        steps=steps,
        whole=whole,
        expected_s=summed if whole is None else whole.median_s,
        limit_s=sum(step.timeout_s for step in plan.steps),
        guessed=whole is None and any(known is None for known in steps.values()),
    )


def _durations(runs: Iterable[Run], step: str, action: str) -> Iterable[float]:
    for run in runs:
        for each in run.steps:
            if each.planned.id == step and each.action == action and (took := _seconds(each)) is not None:
                yield took


def _seconds(step: Step) -> float | None:
    if step.state is not StepState.DONE or step.started_at is None or step.ended_at is None:
        return None
    return (step.ended_at - step.started_at).total_seconds()


def _took(run: Run, fault_at: Mapping[int, datetime]) -> float:
    began = run.created_at if run.incident is None else fault_at.get(run.incident, run.created_at)
    return ((run.ended_at or run.updated_at) - began).total_seconds()
