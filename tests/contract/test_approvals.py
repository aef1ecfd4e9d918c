"""The contract of runs that wait for a person, or have a deadline: on all three stores."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ha_tasks.errors import ScopeBusy
from ha_tasks.model.playbook import Acceptance, Approval, GuardSettings
from ha_tasks.model.run import Phase, RunState
from ha_tasks.names import ActionName
from ha_tasks.ports.repositories import NewRun
from tests.contract.conftest import AnyStore
from tests.plans import NOW, at, new_run, plan_of, planned

LEASE_S = 3.0


def waiting_run(**more) -> NewRun:
    plan = replace(plan_of(), guards=GuardSettings(approval=Approval.ALWAYS))
    return replace(new_run(plan), approval_until=at(3600), **more)


def claim(store: AnyStore, run: int, second: float = 1.0):
    return store.journal.claim(run, 1, Phase.DO, owner="w", now=at(second), lease_s=LEASE_S)


def test_a_run_that_waits_for_a_person_has_no_message_and_nobody_can_claim_it(store: AnyStore):
    run, message = store.journal.create(waiting_run(), NOW)

    assert message is None
    assert run.state is RunState.AWAITING_APPROVAL
    assert store.journal.get(run.id) == run
    # A doubled or a forged message must not begin it either.
    assert claim(store, run.id) is None
    assert store.journal.sweep(at(60), unsent_after_s=0.5, silent_after_s=1.5) == ()


def test_a_run_that_waits_holds_its_scope_and_is_known_by_its_key(store: AnyStore):
    run, _ = store.journal.create(waiting_run(), NOW)

    assert store.journal.create(waiting_run(), at(1)) == (run, None)
    with pytest.raises(ScopeBusy):
        store.journal.create(new_run(run.plan, key="another"), at(1))
    assert [r.id for r in store.journal.active()] == [run.id]


def test_an_approved_run_begins_once_and_names_who_approved_it(store: AnyStore):
    run, _ = store.journal.create(waiting_run(), NOW)

    accepts = Acceptance(bytes=100, primary_at=5000, off=("pg1",))
    message = store.journal.approve(run.id, "anna", at(5), "looked at it", accepts)

    assert message is not None
    assert (message.kwargs["run"], message.kwargs["step"]) == (run.id, 1)
    approved = store.journal.get(run.id)
    assert (approved.state, approved.approved_by, approved.updated_at) == (RunState.PENDING, "anna", at(5))
    assert approved.plan.accepts == accepts
    assert store.journal.approve(run.id, "ben", at(6)) is None
    claimed = claim(store, run.id, 7)
    assert claimed is not None
    assert claimed.state is RunState.RUNNING
    assert [(e.actor, e.verb) for e in store.audit.after(0, 10)] == [
        ("test", "run.created"),
        ("anna", "run.approved"),
    ]


def test_a_lost_first_message_of_an_approved_run_is_sent_again(store: AnyStore):
    run, _ = store.journal.create(waiting_run(), NOW)
    message = store.journal.approve(run.id, "anna", at(5))

    assert store.journal.sweep(at(6), unsent_after_s=0.5, silent_after_s=1.5) == (message,)


def test_nobody_approves_after_the_time_or_what_does_not_wait(store: AnyStore):
    late, _ = store.journal.create(waiting_run(), NOW)
    plain, _ = store.journal.create(new_run(plan_of(scope="other"), key="other"), NOW)

    assert store.journal.approve(late.id, "anna", at(3600)) is None
    assert store.journal.approve(plain.id, "anna", at(1)) is None
    assert store.journal.approve(4711, "anna", at(1)) is None
    assert store.journal.get(late.id).state is RunState.AWAITING_APPROVAL


@pytest.mark.parametrize("new", [waiting_run(), new_run()], ids=["waits for a person", "pending"])
def test_a_run_that_nobody_has_begun_can_be_called_off(store: AnyStore, new: NewRun):
    run, _ = store.journal.create(new, NOW)

    ended = store.journal.call_off(run.id, "rejected by anna", at(5), "anna")

    assert ended == store.journal.get(run.id)
    assert (ended.state, ended.error, ended.ended_at) == (RunState.ABORTED, "rejected by anna", at(5))
    assert claim(store, run.id) is None
    assert store.journal.approve(run.id, "ben", at(6)) is None
    assert store.journal.call_off(run.id, "again", at(6), "ben") is None
    assert store.journal.sweep(at(60), unsent_after_s=0.5, silent_after_s=1.5) == ()
    # Its scope is free again.
    assert store.journal.create(new_run(run.plan, key="next"), at(7))[1] is not None
    assert ("anna", "run.aborted") in [(e.actor, e.verb) for e in store.audit.after(0, 10)]


def test_a_run_that_somebody_has_claimed_cannot_be_called_off(store: AnyStore):
    run, _ = store.journal.create(new_run(), NOW)
    claim(store, run.id)

    assert store.journal.call_off(run.id, "its deadline passed", at(60), "sweeper") is None
    assert store.journal.call_off(4711, "no such run", at(60), "sweeper") is None
    assert store.journal.get(run.id).state is RunState.RUNNING


def test_a_plan_that_needs_approval_comes_back_as_it_was_made(store: AnyStore):
    run, _ = store.journal.create(waiting_run(deadline=at(90)), NOW)

    assert store.journal.get(run.id).plan == waiting_run().plan
    assert store.journal.get(run.id).plan.guards.approval is Approval.ALWAYS
    assert store.journal.get(run.id).deadline == at(90)


def test_the_last_promotion_of_a_service_is_found(store: AnyStore):
    plan = plan_of(planned(1, ActionName.PROMOTE_CANDIDATE), planned(2, ActionName.VERIFY_SERVICE))
    run, _ = store.journal.create(new_run(plan), NOW)
    action = str(ActionName.PROMOTE_CANDIDATE)
    assert store.journal.last_done("web", action) is None

    settle_first(store, run.id, second=12)

    assert store.journal.last_done("web", action) == at(12)
    assert store.journal.last_done("web", str(ActionName.VERIFY_SERVICE)) is None
    assert store.journal.last_done("db", action) is None


def settle_first(store: AnyStore, run: int, second: float) -> None:
    from ha_tasks.model.run import Outcome, after

    claimed = claim(store, run)
    assert claimed is not None
    done = after(claimed, Outcome(ok=True), at(second))
    store.journal.settle(claimed, done, claimed.fence, outcome="ok", error="", due=None)
