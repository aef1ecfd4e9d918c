"""What is counted when an attempt is settled: a table of values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ha_tasks.model.measures import measured
from ha_tasks.model.run import Phase, RunState, StepState
from ha_tasks.names import Counter, Histogram
from tests.fakes.repositories import FakeJournal
from tests.plans import at, new_run

STEP = {"recovery_type": "restart", "step": "take_out"}
TRIGGER = {"trigger": "step_failed"}


def run(state: RunState = RunState.RUNNING, phase: Phase = Phase.DO, **step):
    made, _ = FakeJournal().create(new_run(), at(0))
    return replace(made.with_step(replace(made.current, **step)), state=state, phase=phase)


ENDED = {"started_at": at(0), "ended_at": at(1.5), "state": StepState.DONE}
FAILED = {**ENDED, "state": StepState.FAILED, "error": "it did not work"}
COMPENSATING = {"state": RunState.COMPENSATING, "phase": Phase.UNDO}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (run(), run(**ENDED), [(Histogram.STEP_DURATION, STEP, 1.5)]),
        (run(), run(), []),
        (run(), run(ended_at=at(1)), []),
        (
            run(),
            replace(run(**FAILED), **COMPENSATING),
            [
                (Histogram.STEP_DURATION, STEP, 1.5),
                (Counter.STEP_FAILURES, STEP, 1),
                (Counter.ROLLBACKS, TRIGGER, 1),
            ],
        ),
        (replace(run(), **COMPENSATING), replace(run(**ENDED), **COMPENSATING), []),
        (
            replace(run(), **COMPENSATING),
            replace(run(**FAILED), state=RunState.COMPENSATION_FAILED, phase=Phase.UNDO),
            [(Counter.ROLLBACK_FAILURES, TRIGGER, 1)],
        ),
    ],
)
def test_what_a_settlement_counts(before, after, expected):
    found = [(m.name, dict(m.labels), m.value) for m in measured(before, after)]

    assert found == expected
