"""What is counted and observed when an attempt at a step is settled: the same from every store. Pure.

It is written in the settlement's own transaction, so that no attempt is counted twice or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ha_tasks.model.run import Phase, Run, RunState
from ha_tasks.names import Counter, Histogram, RollbackTrigger


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """``value``: what is added to a counter, or observed by a histogram in seconds."""

    name: Counter | Histogram
    labels: Mapping[str, str]
    value: float = 1.0


def measured(before: Run, after: Run) -> Iterator[Measure]:
    """Of the settlement that took the run from ``before`` to ``after``."""
    step = after.step(before.position)
    labels = {"recovery_type": str(after.plan.recovery_type), "step": str(step.action)}
    if before.phase is Phase.DO and step.ended_at is not None and step.started_at is not None:
        took_s = (step.ended_at - step.started_at).total_seconds()
        yield Measure(name=Histogram.STEP_DURATION, labels=labels, value=took_s)
        if step.error:
            yield Measure(name=Counter.STEP_FAILURES, labels=labels)
    trigger = {"trigger": str(RollbackTrigger.STEP_FAILED)}
    if after.state is RunState.COMPENSATING and before.state is not RunState.COMPENSATING:
        yield Measure(name=Counter.ROLLBACKS, labels=trigger)
    if after.state is RunState.COMPENSATION_FAILED:
        yield Measure(name=Counter.ROLLBACK_FAILURES, labels=trigger)
