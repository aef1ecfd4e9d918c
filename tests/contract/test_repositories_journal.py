"""The journal's contract: on the fake, on SQLite and on PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from ha_tasks.errors import IdempotencyConflict, ScopeBusy, StaleFence
from ha_tasks.model.message import Message
from ha_tasks.model.run import Outcome, Phase, Run, RunState, StepState, after, turn_round
from ha_tasks.ports.repositories import Journal
from tests.contract.conftest import AnyStore
from tests.plans import NOW, at, new_run, on_scope, plan_of, planned


def claim(journal: Journal, run: Run, now: datetime, *, owner: str = "w1", lease_s: float = 3.0) -> Run:
    """Claims the run's current step; it must be takeable."""
    taken = journal.claim(run.id, run.position, run.phase, owner=owner, now=now, lease_s=lease_s)
    assert taken is not None
    return taken


def settle(
    journal: Journal, taken: Run, outcome: Outcome, now: datetime, due: datetime | None = None
) -> Message | None:
    """Settles a claimed step with what the model says comes after."""
    word = "ok" if outcome.ok else "failed"
    return journal.settle(
        taken, after(taken, outcome, now), taken.fence, outcome=word, error=outcome.error, due=due
    )


def sweep(journal: Journal, now: datetime) -> list[tuple[str, int]]:
    """What a sweep finds: task and step of each message."""
    messages = journal.sweep(now, unsent_after_s=1.0, silent_after_s=5.0)
    return [(message.task, message.kwargs["step"]) for message in messages]


OK = Outcome(ok=True, output={"node": "pg2", "lsn": 2**40})


def test_a_new_run_is_pending_and_its_first_message_is_named_for_what_it_does(store: AnyStore):
    run, message = store.journal.create(new_run(), NOW)

    assert (run.state, run.phase, run.position, run.fence) == (RunState.PENDING, Phase.DO, 1, 0)
    assert [step.state for step in run.steps] == [StepState.READY] * 3
    assert run.created_at == run.updated_at == NOW
    assert store.journal.get(run.id) == run
    assert message is not None
    assert message.id is not None
    assert (message.task, message.kwargs["run"], message.kwargs["step"]) == ("ha.step.take_out", run.id, 1)


def test_the_same_key_with_the_same_plan_is_the_run_that_exists_and_no_message(store: AnyStore):
    run, _ = store.journal.create(new_run(), NOW)

    again, message = store.journal.create(replace(new_run(), reason="asked twice"), at(1))

    assert (again, message) == (run, None)


def test_the_same_key_gives_the_same_run_also_when_that_has_moved_on_or_ended(store: AnyStore):
    one_step = plan_of(planned(1))
    run, _ = store.journal.create(new_run(one_step), NOW)
    settle(store.journal, claim(store.journal, run, at(1)), OK, at(2))

    again, message = store.journal.create(new_run(one_step), at(3))

    assert (again.id, again.state, message) == (run.id, RunState.SUCCEEDED, None)


def test_the_same_key_with_another_plan_is_a_conflict(store: AnyStore):
    store.journal.create(new_run(), NOW)

    with pytest.raises(IdempotencyConflict):
        store.journal.create(new_run(plan_of(planned(1))), at(1))


def test_a_scope_takes_one_active_run(store: AnyStore):
    run, _ = store.journal.create(on_scope("db", key="first"), NOW)

    with pytest.raises(ScopeBusy, match=f"run {run.id} is active on db"):
        store.journal.create(on_scope("db", key="second"), at(1))
    other, _ = store.journal.create(on_scope("web", key="third"), at(1))

    assert [r.id for r in store.journal.active()] == [run.id, other.id]


def test_a_scope_is_free_again_once_its_run_has_ended(store: AnyStore):
    run, _ = store.journal.create(new_run(plan_of(planned(1))), NOW)
    settle(store.journal, claim(store.journal, run, at(1)), OK, at(2))

    second, message = store.journal.create(new_run(plan_of(planned(1)), key="second"), at(3))

    assert second.id != run.id
    assert message is not None
    assert store.journal.active() == (second,)
    assert [r.id for r in store.journal.recent()] == [second.id, run.id]
    assert [r.id for r in store.journal.recent(limit=1)] == [second.id]


def test_a_run_that_is_not_there_is_a_key_error_to_read_and_nothing_to_claim(store: AnyStore):
    with pytest.raises(KeyError):
        store.journal.get(41)

    assert store.journal.claim(41, 1, Phase.DO, owner="w1", now=NOW, lease_s=3) is None
    assert store.journal.attempts(41) == ()


def test_a_claim_takes_the_lease_and_records_the_attempt(store: AnyStore):
    run, _ = store.journal.create(new_run(), NOW)

    taken = claim(store.journal, run, at(1), owner="host/recovery-1", lease_s=3.5)

    assert taken.state is RunState.RUNNING
    assert (taken.current.state, taken.current.attempts) == (StepState.RUNNING, 1)
    assert taken.current.started_at == at(1)
    assert (taken.lease_owner, taken.lease_until) == ("host/recovery-1", at(4.5))
    assert store.journal.get(run.id) == taken
    (attempt,) = store.journal.attempts(run.id)
    assert (attempt.step, attempt.phase, attempt.fence) == (1, "do", taken.fence)
    assert (attempt.worker, attempt.started_at, attempt.ended_at) == ("host/recovery-1", at(1), None)


def test_fences_grow_over_all_runs(store: AnyStore):
    first, _ = store.journal.create(on_scope("db", key="first"), NOW)
    second, _ = store.journal.create(on_scope("web", key="second"), NOW)

    fences = [
        claim(store.journal, first, at(1)).fence,
        claim(store.journal, second, at(2)).fence,
        store.journal.next_fence(at(3)),
        claim(store.journal, first, at(9)).fence,
    ]

    assert fences == sorted(set(fences))


def test_fences_can_be_raised_above_what_agents_have_seen_and_never_go_down(store):
    store.journal.raise_fence(500)
    raised = store.journal.next_fence(at(1))
    store.journal.raise_fence(3)

    assert (raised, store.journal.next_fence(at(2))) == (501, 502)


@pytest.mark.parametrize(
    ("step", "phase", "second"),
    [
        (2, Phase.DO, 9.0),
        (1, Phase.UNDO, 9.0),
        (1, Phase.DO, 3.9),
    ],
    ids=["another step", "another phase", "a living owner"],
)
def test_there_is_nothing_to_claim(store: AnyStore, step: int, phase: Phase, second: float):
    run, _ = store.journal.create(new_run(), NOW)
    taken = claim(store.journal, run, at(1), lease_s=3)

    assert store.journal.claim(run.id, step, phase, owner="w2", now=at(second), lease_s=3) is None
    assert store.journal.get(run.id) == taken
    assert len(store.journal.attempts(run.id)) == 1


def test_an_ended_run_cannot_be_claimed(store: AnyStore):
    run, _ = store.journal.create(new_run(plan_of(planned(1))), NOW)
    settle(store.journal, claim(store.journal, run, at(1)), OK, at(2))

    assert store.journal.claim(run.id, 1, Phase.DO, owner="w2", now=at(9), lease_s=3) is None


def test_whoever_takes_over_from_a_dead_executor_finds_the_step_unknown(store: AnyStore):
    run, _ = store.journal.create(new_run(), NOW)
    dead = claim(store.journal, run, at(1), owner="dead", lease_s=3)

    taken = claim(store.journal, run, at(4), owner="heir")

    assert taken.fence > dead.fence
    assert (taken.current.state, taken.current.attempts) == (StepState.UNKNOWN, 2)
    assert taken.current.started_at == at(1)
    attempts = store.journal.attempts(run.id)
    assert [(a.worker, a.outcome, a.ended_at) for a in attempts] == [
        ("dead", "lost", at(4)),
        ("heir", "running", None),
    ]


def test_a_renewed_lease_lasts_longer(store: AnyStore):
    run, _ = store.journal.create(new_run(), NOW)
    taken = claim(store.journal, run, at(1), lease_s=3)

    assert store.journal.renew(run.id, taken.fence, at(3), 3)

    assert store.journal.get(run.id).lease_until == at(6)
    assert store.journal.claim(run.id, 1, Phase.DO, owner="w2", now=at(5), lease_s=3) is None


def test_a_lease_is_not_renewed_for_a_stale_fence_or_a_settled_step(store: AnyStore):
    run, _ = store.journal.create(new_run(), NOW)
    dead = claim(store.journal, run, at(1), lease_s=3)
    heir = claim(store.journal, run, at(4), lease_s=3)

    assert not store.journal.renew(run.id, dead.fence, at(5), 3)
    settle(store.journal, heir, OK, at(5))
    assert not store.journal.renew(run.id, heir.fence, at(6), 3)
    assert not store.journal.renew(41, heir.fence, at(6), 3)
    assert store.journal.get(run.id).lease_until is None


def test_what_was_captured_is_kept_through_the_settling_of_its_step(store: AnyStore):
    run, _ = store.journal.create(new_run(), NOW)
    taken = claim(store.journal, run, at(1))
    captured = {"states": ["ready", None], "weight": 0.5, "nested": {"nul": "\0", "half": "\ud83d"}}

    store.journal.capture(run.id, taken.fence, 1, captured)
    settle(store.journal, taken, OK, at(2))

    assert store.journal.get(run.id).step(1).captured == captured
    assert store.journal.get(run.id).step(2).captured is None


def test_how_far_a_step_is_stands_as_its_output_until_it_has_one(store: AnyStore):
    run, _ = store.journal.create(new_run(), NOW)
    taken = claim(store.journal, run, at(1))

    for percent in (10, 20):
        store.journal.tell(run.id, taken.fence, 1, {"doing": "a copy", "percent": percent})
    told = store.journal.get(run.id)
    settle(store.journal, taken, OK, at(2))

    assert told.step(1).output == {"doing": "a copy", "percent": 20}
    assert (told.state, told.updated_at, told.step(2).output) == (taken.state, taken.updated_at, {})
    assert store.journal.get(run.id).step(1).output == OK.output


def test_whoever_takes_over_is_given_what_was_captured(store: AnyStore):
    run, _ = store.journal.create(new_run(), NOW)
    dead = claim(store.journal, run, at(1))
    store.journal.capture(run.id, dead.fence, 1, {"was": "ready"})

    assert claim(store.journal, run, at(9)).current.captured == {"was": "ready"}


def test_settling_moves_the_run_on_and_gives_the_next_message(store: AnyStore):
    run, _ = store.journal.create(new_run(), NOW)

    message = settle(store.journal, claim(store.journal, run, at(1)), OK, at(2))

    assert message is not None
    assert (message.task, message.kwargs["step"]) == ("ha.step.restart_instance", 2)
    now = store.journal.get(run.id)
    assert (now.position, now.state, now.updated_at) == (2, RunState.RUNNING, at(2))
    assert (now.lease_owner, now.lease_until) == (None, None)
    assert (now.step(1).state, now.step(1).output, now.step(1).ended_at) == (StepState.DONE, OK.output, at(2))
    (attempt,) = store.journal.attempts(run.id)
    assert (attempt.outcome, attempt.ended_at) == ("ok", at(2))


def test_the_last_step_ends_the_run(store: AnyStore):
    run, _ = store.journal.create(new_run(plan_of(planned(1))), NOW)

    message = settle(store.journal, claim(store.journal, run, at(1)), OK, at(2))

    assert message is None
    ended = store.journal.get(run.id)
    assert (ended.state, ended.ended_at, ended.lease_owner) == (RunState.SUCCEEDED, at(2), None)
    assert store.journal.active() == ()
    assert sweep(store.journal, at(100)) == []


def test_a_failed_run_goes_back_step_by_step_and_ends_rolled_back(store: AnyStore):
    run, _ = store.journal.create(new_run(), NOW)
    settle(store.journal, claim(store.journal, run, at(1)), OK, at(2))
    second = claim(store.journal, store.journal.get(run.id), at(3))

    message = settle(store.journal, second, Outcome(ok=False, error="no\0such unit \udcff"), at(4))

    assert message is not None
    assert (message.task, message.kwargs["step"]) == ("ha.undo.restart_instance", 2)
    turned = store.journal.get(run.id)
    assert (turned.state, turned.phase, turned.position) == (RunState.COMPENSATING, Phase.UNDO, 2)
    assert turned.error.startswith("no")
    settle(store.journal, claim(store.journal, turned, at(5)), Outcome(ok=True), at(6))
    settle(store.journal, claim(store.journal, store.journal.get(run.id), at(7)), Outcome(ok=True), at(8))
    ended = store.journal.get(run.id)
    assert (ended.state, ended.ended_at) == (RunState.ROLLED_BACK, at(8))
    assert [s.state for s in ended.steps] == [StepState.UNDONE, StepState.UNDONE, StepState.READY]
    assert [(a.step, a.phase, a.outcome) for a in store.journal.attempts(run.id)] == [
        (1, "do", "ok"),
        (2, "do", "failed"),
        (2, "undo", "ok"),
        (1, "undo", "ok"),
    ]


def test_a_stale_fence_writes_nothing(store: AnyStore):
    run, _ = store.journal.create(new_run(), NOW)
    dead = claim(store.journal, run, at(1))
    heir = claim(store.journal, run, at(9))
    before = store.journal.get(run.id), store.journal.attempts(run.id)

    with pytest.raises(StaleFence):
        settle(store.journal, dead, OK, at(10))
    with pytest.raises(StaleFence):
        store.journal.capture(run.id, dead.fence, 1, {"was": "later"})
    with pytest.raises(StaleFence):
        store.journal.tell(run.id, dead.fence, 1, {"doing": "a copy"})

    assert (store.journal.get(run.id), store.journal.attempts(run.id)) == before
    assert settle(store.journal, heir, OK, at(11)) is not None


def test_a_step_is_settled_once(store: AnyStore):
    run, _ = store.journal.create(new_run(), NOW)
    taken = claim(store.journal, run, at(1))
    settle(store.journal, taken, OK, at(2))
    before = store.journal.get(run.id)

    with pytest.raises(StaleFence):
        settle(store.journal, taken, OK, at(3))
    with pytest.raises(StaleFence):
        store.journal.capture(run.id, taken.fence, 1, {"was": "later"})
    with pytest.raises(StaleFence):
        store.journal.tell(run.id, taken.fence, 1, {"doing": "a copy"})

    assert store.journal.get(run.id) == before


def test_an_executor_that_is_late_but_was_not_replaced_may_settle(store: AnyStore):
    run, _ = store.journal.create(new_run(), NOW)
    taken = claim(store.journal, run, at(1), lease_s=3)

    assert settle(store.journal, taken, OK, at(60)) is not None


def test_a_retry_cannot_be_claimed_before_it_is_due_and_is_sent_by_the_sweeper(store: AnyStore):
    run, first = store.journal.create(new_run(), NOW)
    assert first is not None
    passing = Outcome(ok=False, error="connection refused", passing=True)
    taken = claim(store.journal, run, at(1))

    assert settle(store.journal, taken, passing, at(2), due=at(4)) is None

    assert store.journal.claim(run.id, 1, Phase.DO, owner="w1", now=at(3.9), lease_s=3) is None
    assert sweep(store.journal, at(3.9)) == []
    assert sweep(store.journal, at(4)) == [("ha.step.take_out", 1)]
    again = claim(store.journal, run, at(4))
    assert (again.current.state, again.current.attempts) == (StepState.RUNNING, 2)


def test_a_retry_that_was_claimed_is_not_held_back_by_its_due_time_again(store: AnyStore):
    run, _ = store.journal.create(new_run(), NOW)
    passing = Outcome(ok=False, error="connection refused", passing=True)
    settle(store.journal, claim(store.journal, run, at(1)), passing, at(2), due=at(4))
    claim(store.journal, run, at(4), lease_s=3)

    assert claim(store.journal, run, at(7)).current.attempts == 3


def test_the_sweeper_sends_an_unsent_message_again_but_not_at_once(store: AnyStore):
    store.journal.create(new_run(), NOW)

    assert sweep(store.journal, at(0.9)) == []
    assert sweep(store.journal, at(1)) == [("ha.step.take_out", 1)]
    assert sweep(store.journal, at(1.9)) == []
    assert sweep(store.journal, at(2)) == [("ha.step.take_out", 1)]


def test_the_sweeper_sends_a_sent_message_again_when_nobody_came_for_long(store: AnyStore):
    _, message = store.journal.create(new_run(), NOW)
    assert message is not None
    store.journal.sent([message], at(0.1))

    assert sweep(store.journal, at(5)) == []
    assert sweep(store.journal, at(5.1)) == [("ha.step.take_out", 1)]
    store.journal.sent([message], at(5.2))
    assert sweep(store.journal, at(10.1)) == []
    assert sweep(store.journal, at(10.2)) == [("ha.step.take_out", 1)]


def test_a_swept_message_can_be_ticked_off(store: AnyStore):
    store.journal.create(new_run(), NOW)
    swept = store.journal.sweep(at(1), unsent_after_s=1, silent_after_s=5)

    store.journal.sent(swept, at(1.1))

    assert sweep(store.journal, at(6)) == []


def test_a_late_tick_does_not_meet_the_message_of_the_next_step(store: AnyStore):
    run, first = store.journal.create(new_run(), NOW)
    assert first is not None
    settle(store.journal, claim(store.journal, run, at(1)), OK, at(2))

    store.journal.sent([first], at(2.1))

    assert sweep(store.journal, at(3)) == [("ha.step.restart_instance", 2)]


def test_nothing_is_ticked_off_by_an_empty_list(store: AnyStore):
    store.journal.create(new_run(), NOW)

    store.journal.sent([], at(0.1))

    assert len(sweep(store.journal, at(1))) == 1


def test_the_sweeper_leaves_a_living_executor_alone_and_replaces_a_dead_one_once(store: AnyStore):
    run, _ = store.journal.create(new_run(), NOW)
    claim(store.journal, run, at(1), lease_s=10)

    assert sweep(store.journal, at(10.9)) == []
    assert sweep(store.journal, at(11)) == [("ha.step.take_out", 1)]
    assert sweep(store.journal, at(11.5)) == []


def test_the_sweeper_finds_the_step_of_an_executor_that_died_a_second_time(store: AnyStore):
    run, _ = store.journal.create(new_run(), NOW)
    claim(store.journal, run, at(1), lease_s=3)
    store.journal.sent(store.journal.sweep(at(4), unsent_after_s=1, silent_after_s=5), at(4.1))
    claim(store.journal, run, at(4.2), lease_s=3)

    assert sweep(store.journal, at(7.1)) == []
    assert sweep(store.journal, at(7.2)) == [("ha.step.take_out", 1)]


def test_a_message_whose_executor_came_is_not_sent_again(store: AnyStore):
    run, _ = store.journal.create(new_run(), NOW)
    claim(store.journal, run, at(0.5), lease_s=60)

    assert sweep(store.journal, at(2)) == []


def test_a_run_in_a_terminal_state_has_an_end_even_if_nobody_says_when(store: AnyStore):
    run, _ = store.journal.create(new_run(), NOW)
    taken = claim(store.journal, run, at(1))
    aborted = replace(taken, state=RunState.ABORTED, updated_at=at(2), error="the stop switch")

    message = store.journal.settle(taken, aborted, taken.fence, outcome="aborted", error="", due=None)

    assert message is None
    ended = store.journal.get(run.id)
    assert (ended.state, ended.ended_at, ended.error) == (RunState.ABORTED, at(2), "the stop switch")


def test_a_step_that_is_left_with_an_unknown_outcome_is_undone_too(store: AnyStore):
    run, _ = store.journal.create(new_run(), NOW)
    taken = claim(store.journal, run, at(1))
    turned = turn_round(taken, "the stop switch", at(2))

    message = store.journal.settle(taken, turned, taken.fence, outcome="aborted", error="", due=None)

    assert message is not None
    assert (message.task, message.kwargs["step"]) == ("ha.undo.take_out", 1)
    assert store.journal.get(run.id).step(1).state is StepState.UNKNOWN


def test_runs_since_a_moment_are_counted_without_drills(store: AnyStore):
    for number, mode in enumerate(["auto", "manual", "drill", "auto"]):
        plan = replace(plan_of(), scope=f"scope-{number}")
        store.journal.create(new_run(plan, key=f"key-{number}", mode=mode), at(number))

    assert store.journal.started_since(NOW) == 3
    assert store.journal.started_since(at(1)) == 2
    assert store.journal.started_since(at(3.5)) == 0
