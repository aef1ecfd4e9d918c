"""The moves of a run: each branch as a row of values, and what holds whatever happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ha_tasks.model.playbook import PlannedStep, UndoPolicy
from ha_tasks.model.run import (
    TERMINAL,
    Outcome,
    Phase,
    Run,
    RunState,
    Step,
    StepState,
    after,
    claimed,
    exhausted,
    passed_no_return,
    turn_round,
)
from ha_tasks.names import ActionName
from tests.plans import NOW, at, plan_of, planned

OK = Outcome(ok=True, output={"node": "pg2"})
BAD = Outcome(ok=False, error="it broke")
PASSING = Outcome(ok=False, error="connection refused", passing=True)

READY, RUNNING, DONE, FAILED, UNKNOWN, UNDONE, KEPT, UNDO_FAILED = StepState


def run_of(
    *states: StepState,
    steps: Sequence[PlannedStep] = (),
    position: int = 1,
    phase: Phase = Phase.DO,
    state: RunState = RunState.RUNNING,
    attempts: int = 1,
    error: str = "",
) -> Run:
    """A run whose steps are in these states, its current one claimed ``attempts`` times."""
    plan = plan_of(*(steps or (planned(no) for no in range(1, len(states) + 1))))
    made = [
        Step(planned=p, state=s, attempts=0 if s is READY and p.no != position else attempts)
        for p, s in zip(plan.steps, states, strict=True)
    ]
    return Run(
        id=7,
        incident=None,
        plan=plan,
        state=state,
        phase=phase,
        position=position,
        fence=3,
        steps=tuple(made),
        mode="auto",
        requested_by="test",
        reason="",
        created_at=NOW,
        updated_at=NOW,
        error=error,
    )


def states(run: Run) -> list[StepState]:
    """Where its steps are."""
    return [step.state for step in run.steps]


KEEP = planned(1, undo=UndoPolicy.KEEP)
NO_RETURN = planned(1, ActionName.PROMOTE_CANDIDATE, point_of_no_return=True)

FORWARD = {
    "a done step moves the run on": (
        run_of(RUNNING, READY),
        OK,
        (RunState.RUNNING, Phase.DO, 2, [DONE, READY]),
    ),
    "an unknown step that turns out well moves the run on": (
        run_of(UNKNOWN, READY, attempts=4),
        OK,
        (RunState.RUNNING, Phase.DO, 2, [DONE, READY]),
    ),
    "the step that verifies is entered as such": (
        run_of(RUNNING, READY, steps=[planned(1), planned(2, ActionName.VERIFY_SERVICE)]),
        OK,
        (RunState.VERIFYING, Phase.DO, 2, [DONE, READY]),
    ),
    "a step after the verification is not one": (
        run_of(RUNNING, READY, steps=[planned(1, ActionName.VERIFY_SERVICE), planned(2)]),
        OK,
        (RunState.RUNNING, Phase.DO, 2, [DONE, READY]),
    ),
    "the last step ends the run": (
        run_of(DONE, RUNNING, position=2),
        OK,
        (RunState.SUCCEEDED, Phase.DO, 2, [DONE, DONE]),
    ),
    "a passing failure waits": (
        run_of(DONE, RUNNING, position=2),
        PASSING,
        (RunState.RUNNING, Phase.DO, 2, [DONE, READY]),
    ),
    "a failing verification waits as such": (
        run_of(RUNNING, steps=[planned(1, ActionName.VERIFY_SERVICE)], state=RunState.VERIFYING),
        PASSING,
        (RunState.VERIFYING, Phase.DO, 1, [READY]),
    ),
}

ROUND = {
    "a step that failed for good is undone first": (
        run_of(DONE, RUNNING, READY, position=2),
        BAD,
        (RunState.COMPENSATING, Phase.UNDO, 2, [DONE, FAILED, READY]),
    ),
    "a passing failure at the last attempt is one for good": (
        run_of(DONE, RUNNING, READY, position=2, attempts=2),
        PASSING,
        (RunState.COMPENSATING, Phase.UNDO, 2, [DONE, FAILED, READY]),
    ),
    "what is kept is passed over": (
        run_of(DONE, RUNNING, steps=[planned(1), planned(2, undo=UndoPolicy.KEEP)], position=2),
        BAD,
        (RunState.COMPENSATING, Phase.UNDO, 1, [DONE, KEPT]),
    ),
    "where everything is kept the run has ended": (
        run_of(DONE, RUNNING, steps=[KEEP, replace(KEEP, no=2)], position=2),
        BAD,
        (RunState.ROLLED_BACK, Phase.UNDO, 2, [KEPT, KEPT]),
    ),
    "nothing is undone after the point of no return": (
        run_of(DONE, RUNNING, steps=[NO_RETURN, planned(2)], position=2),
        BAD,
        (RunState.COMPENSATION_FAILED, Phase.DO, 2, [DONE, FAILED]),
    ),
    "nor at it": (
        run_of(DONE, RUNNING, steps=[planned(1), replace(NO_RETURN, no=2)], position=2),
        BAD,
        (RunState.COMPENSATION_FAILED, Phase.DO, 2, [DONE, FAILED]),
    ),
    "before it everything is": (
        run_of(RUNNING, READY, steps=[planned(1), replace(NO_RETURN, no=2)]),
        BAD,
        (RunState.COMPENSATING, Phase.UNDO, 1, [FAILED, READY]),
    ),
}

BACKWARD = {
    "an undone step moves the run back": (
        run_of(DONE, FAILED, position=2, phase=Phase.UNDO, state=RunState.COMPENSATING),
        OK,
        (RunState.COMPENSATING, Phase.UNDO, 1, [DONE, UNDONE]),
    ),
    "an unknown step is undone too": (
        run_of(UNKNOWN, DONE, position=2, phase=Phase.UNDO, state=RunState.COMPENSATING),
        OK,
        (RunState.COMPENSATING, Phase.UNDO, 1, [UNKNOWN, UNDONE]),
    ),
    "the first step ends it": (
        run_of(DONE, UNDONE, phase=Phase.UNDO, state=RunState.COMPENSATING),
        OK,
        (RunState.ROLLED_BACK, Phase.UNDO, 1, [UNDONE, UNDONE]),
    ),
    "a kept step below ends it": (
        run_of(
            DONE,
            DONE,
            steps=[KEEP, planned(2)],
            position=2,
            phase=Phase.UNDO,
            state=RunState.COMPENSATING,
        ),
        OK,
        (RunState.ROLLED_BACK, Phase.UNDO, 2, [KEPT, UNDONE]),
    ),
    "an undo that failed is tried again, passing or not": (
        run_of(DONE, phase=Phase.UNDO, state=RunState.COMPENSATING),
        BAD,
        (RunState.COMPENSATING, Phase.UNDO, 1, [DONE]),
    ),
    "an undo that failed for good calls a person": (
        run_of(DONE, DONE, position=2, phase=Phase.UNDO, state=RunState.COMPENSATING, attempts=2),
        PASSING,
        (RunState.COMPENSATION_FAILED, Phase.UNDO, 2, [DONE, UNDO_FAILED]),
    ),
}


@pytest.mark.parametrize(("before", "outcome", "expected"), **{
    "argvalues": list((FORWARD | ROUND | BACKWARD).values()), "ids": list(FORWARD | ROUND | BACKWARD)
})  # fmt: skip
def test_after_an_outcome(before: Run, outcome: Outcome, expected: object):
    moved = after(before, outcome, at(5))

    assert (moved.state, moved.phase, moved.position, states(moved)) == expected
    assert moved.updated_at == at(5)
    assert moved.ended_at == (at(5) if moved.state in TERMINAL else None)


def test_an_outcome_is_kept_with_its_step():
    done = after(run_of(RUNNING, READY), OK, at(5)).step(1)
    waiting = after(run_of(RUNNING), PASSING, at(5)).step(1)
    failed = after(run_of(RUNNING), BAD, at(5)).step(1)

    assert (done.output, done.error, done.ended_at) == ({"node": "pg2"}, "", at(5))
    assert (waiting.error, waiting.ended_at) == ("connection refused", None)
    assert (failed.error, failed.ended_at) == ("it broke", at(5))


def test_outputs_are_those_of_the_steps_that_are_done():
    run = after(run_of(RUNNING, READY), OK, at(5))

    assert run.outputs == {"step-1": {"node": "pg2"}}


def test_the_reason_of_a_failure_is_the_run_s():
    turned = after(run_of(RUNNING), BAD, at(5))
    stuck = after(run_of(DONE, RUNNING, steps=[NO_RETURN, planned(2)], position=2), BAD, at(5))
    undo = run_of(DONE, phase=Phase.UNDO, attempts=2, error="it broke")
    called = after(undo, Outcome(ok=False, error="so did this"), at(5))

    assert turned.error == "it broke"
    assert stuck.error == "it broke; past the point of no return, so nothing was undone"
    assert called.error == "it broke; undoing step-1 failed: so did this"


def test_a_step_that_is_undone_begins_to_count_anew():
    turned = after(run_of(RUNNING, attempts=2), BAD, at(5))

    assert turned.current.attempts == 0
    assert claimed(turned, at(6)).current.attempts == 1


CLAIMS = {
    "a new run begins": (run_of(READY, state=RunState.PENDING, attempts=0), RunState.RUNNING, RUNNING, 1),
    "a run of nothing but verification verifies": (
        run_of(READY, steps=[planned(1, ActionName.VERIFY_SERVICE)], state=RunState.PENDING, attempts=0),
        RunState.VERIFYING,
        RUNNING,
        1,
    ),
    "a waiting step is taken up again": (run_of(READY, attempts=1), RunState.RUNNING, RUNNING, 2),
    "a running step lost its executor": (run_of(RUNNING), RunState.RUNNING, UNKNOWN, 2),
    "and once more": (run_of(UNKNOWN, attempts=2), RunState.RUNNING, UNKNOWN, 3),
    "an undo leaves the step as it is": (
        run_of(FAILED, phase=Phase.UNDO, state=RunState.COMPENSATING),
        RunState.COMPENSATING,
        FAILED,
        2,
    ),
}


@pytest.mark.parametrize(("before", "state", "step", "attempts"), CLAIMS.values(), ids=CLAIMS)
def test_a_claim(before: Run, state: RunState, step: StepState, attempts: int):
    taken = claimed(before, at(5))

    assert (taken.state, taken.current.state, taken.current.attempts) == (state, step, attempts)
    assert taken.updated_at == at(5)


def test_a_step_began_when_it_was_first_claimed():
    first = claimed(run_of(READY, attempts=0), at(1))

    assert claimed(first, at(5)).current.started_at == first.current.started_at == at(1)


@pytest.mark.parametrize(("attempts", "too_many"), [(1, False), (5, False), (6, True)])
def test_deaths_get_three_claims_beyond_the_attempts(attempts: int, too_many: bool):
    assert exhausted(run_of(UNKNOWN, attempts=attempts)) is too_many


@pytest.mark.parametrize("state", [RUNNING, UNKNOWN, READY])
def test_a_step_that_is_left_half_way_is_undone(state: StepState):
    turned = turn_round(run_of(DONE, state, position=2), "the stop switch", at(5))

    assert (turned.state, turned.position, states(turned)) == (RunState.COMPENSATING, 2, [DONE, UNKNOWN])


def test_a_step_that_nobody_began_is_not_undone():
    turned = turn_round(run_of(DONE, READY, position=2, attempts=0), "the stop switch", at(5))

    assert (turned.state, turned.position, states(turned)) == (RunState.COMPENSATING, 1, [DONE, READY])


def test_a_run_of_which_nothing_was_begun_has_nothing_to_undo():
    turned = turn_round(run_of(READY, attempts=0), "the stop switch", at(5))

    assert (turned.state, turned.error, states(turned)) == (RunState.ROLLED_BACK, "the stop switch", [READY])


def test_a_run_on_its_way_back_is_not_turned_again():
    back = run_of(DONE, FAILED, position=2, phase=Phase.UNDO, state=RunState.COMPENSATING)

    assert turn_round(back, "the stop switch", at(5)) == back


@pytest.mark.parametrize(
    ("state", "attempts", "passed"),
    [(READY, 0, False), (READY, 1, True), (RUNNING, 1, True), (UNKNOWN, 1, True), (DONE, 1, True)],
)
def test_the_point_of_no_return_is_passed_once_it_is_begun(state: StepState, attempts: int, passed: bool):
    assert passed_no_return(run_of(state, steps=[NO_RETURN], attempts=attempts)) is passed


def test_a_promotion_that_waits_for_its_next_attempt_may_have_happened():
    waiting = after(
        run_of(DONE, RUNNING, steps=[planned(1), replace(NO_RETURN, no=2)], position=2), PASSING, at(5)
    )

    turned = turn_round(waiting, "the stop switch", at(6))

    assert turned.state is RunState.COMPENSATION_FAILED
    assert states(turned) == [DONE, UNKNOWN]


@pytest.mark.parametrize("number", [0, 3, -1])
def test_a_step_that_is_not_there_is_a_key_error(number: int):
    with pytest.raises(KeyError):
        run_of(READY, READY).step(number)


DIE, ABORT = "die", "abort"

plans = st.lists(
    st.builds(
        lambda action, undo, attempts, no_return: (action, undo, attempts, no_return),
        st.sampled_from([ActionName.TAKE_OUT, ActionName.PROMOTE_CANDIDATE, ActionName.VERIFY_SERVICE]),
        st.sampled_from(UndoPolicy),
        st.integers(1, 3),
        st.sampled_from([False, False, False, True]),
    ),
    min_size=1,
    max_size=6,
).map(
    lambda rows: [
        planned(no, action, undo=undo, attempts=attempts, point_of_no_return=no_return)
        for no, (action, undo, attempts, no_return) in enumerate(rows, start=1)
    ]
)
events = st.lists(st.sampled_from([OK, OK, OK, BAD, PASSING, DIE, ABORT]), min_size=1, max_size=60)


@settings(deadline=None, max_examples=200)
@given(steps=plans, story=events)
def test_whatever_happens_a_run_ends_and_goes_back_only_where_it_may(
    steps: list[PlannedStep], story: list[object]
):
    run = run_of(*[READY] * len(steps), steps=steps, state=RunState.PENDING, attempts=0)
    undone: list[int] = []

    for turn in range(len(steps) * 2 * 7):
        run = claimed(run, at(turn))
        assert run.state not in TERMINAL
        event = story[turn % len(story)]
        if run.phase is Phase.UNDO:
            undone.append(run.position)
            assert run.current.state in {DONE, FAILED, UNKNOWN}
            assert run.current.planned.undo is UndoPolicy.RUN
            assert not passed_no_return(run)
        if exhausted(run):
            event = BAD
        if event is DIE:
            continue
        run = turn_round(run, "stop", at(turn)) if event is ABORT else after(run, event, at(turn))
        if run.state in TERMINAL:
            break

    assert run.state in TERMINAL
    assert run.ended_at is not None
    assert undone == sorted(undone, reverse=True)
    _assert_well_ended(run, undone)


def _assert_well_ended(run: Run, undone: list[int]) -> None:
    begun = [step for step in run.steps if step.begun]
    if run.state is RunState.SUCCEEDED:
        assert states(run) == [DONE] * len(run.steps)
    elif run.state is RunState.ROLLED_BACK:
        for step in begun:
            assert step.state is (UNDONE if step.planned.undo is UndoPolicy.RUN else KEPT)
            assert (step.no in undone) is (step.state is UNDONE)
    elif passed_no_return(run):
        assert undone == []
        assert not {UNDONE, KEPT, UNDO_FAILED} & set(states(run))
    else:
        assert states(run).count(UNDO_FAILED) == 1
        assert run.current.state is UNDO_FAILED
