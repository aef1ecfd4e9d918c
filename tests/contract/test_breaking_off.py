"""The contract of runs that are ended for a failover while they are being worked on: on all three stores."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ha_tasks.errors import StaleFence
from ha_tasks.model.cluster import Cluster, ClusterState, sync_set_of
from ha_tasks.model.playbook import UndoPolicy
from ha_tasks.model.run import GAVE_WAY, Outcome, Run, RunState, StepState, after
from ha_tasks.ports.repositories import Warrant
from tests.contract.conftest import AnyStore
from tests.plans import NOW, at, new_run, plan_of, planned

WHY = f"{GAVE_WAY} I-7"
KEEPING = plan_of(planned(1, undo=UndoPolicy.KEEP), planned(2, undo=UndoPolicy.KEEP))


def begun(store: AnyStore, plan=KEEPING) -> Run:
    run, _ = store.journal.create(new_run(plan), NOW)
    taken = store.journal.claim(run.id, 1, run.phase, owner="w", now=at(1), lease_s=3.0)
    assert taken is not None
    return taken


def test_a_run_that_leaves_nothing_behind_ends_at_once_and_its_scope_is_free(store: AnyStore):
    taken = begun(store)

    ended = store.journal.break_off(taken.id, WHY, at(2), "an observer")

    assert ended == store.journal.get(taken.id)
    assert (ended.state, ended.error, ended.ended_at) == (RunState.ABORTED, WHY, at(2))
    assert ended.lease_owner is None
    assert ended.step(1).state is StepState.UNKNOWN
    assert [(a.outcome, a.ended_at) for a in store.journal.attempts(taken.id)] == [("lost", at(2))]
    assert store.journal.sweep(at(60), unsent_after_s=0.5, silent_after_s=1.5) == ()
    assert store.journal.create(new_run(taken.plan, key="next"), at(3))[1] is not None
    assert ("an observer", "run.aborted") in [(e.actor, e.verb) for e in store.audit.after(0, 10)]


def test_its_executor_can_write_nothing_from_then_on(store: AnyStore):
    taken = begun(store)
    warrant = Warrant(run=taken.id, fence=taken.fence)
    cluster = Cluster(
        name="db", epoch=1, primary="pg1", state=ClusterState.STEADY, sets=(sync_set_of(["pg2"]),)
    )
    store.clusters.register(cluster, NOW)
    assert store.clusters.advance("db", 1, at(1), new_epoch=True, under=warrant).epoch == 2

    store.journal.break_off(taken.id, WHY, at(2), "an observer")

    assert not store.journal.renew(taken.id, taken.fence, at(2), 3.0)
    ok = Outcome(ok=True)
    with pytest.raises(StaleFence):
        store.journal.settle(taken, after(taken, ok, at(3)), taken.fence, outcome="ok", error="", due=None)
    with pytest.raises(StaleFence):
        store.clusters.advance("db", 2, at(3), new_epoch=True, under=warrant)
    assert store.clusters.get("db").epoch == 2


def test_between_two_steps_as_well(store: AnyStore):
    taken = begun(store)
    ok = Outcome(ok=True)
    store.journal.settle(taken, after(taken, ok, at(2)), taken.fence, outcome="ok", error="", due=None)

    ended = store.journal.break_off(taken.id, WHY, at(3), "an observer")

    assert ended is not None
    assert [s.state for s in ended.steps] == [StepState.DONE, StepState.READY]
    assert store.journal.claim(taken.id, 2, taken.phase, owner="w", now=at(4), lease_s=3.0) is None


def test_what_would_have_to_be_taken_back_goes_on(store: AnyStore):
    taken = begun(store, plan_of(planned(1), planned(2)))

    assert store.journal.break_off(taken.id, WHY, at(2), "an observer") is None
    assert store.journal.get(taken.id).state is RunState.RUNNING


def test_nor_one_that_was_never_begun_or_has_ended(store: AnyStore):
    run, _ = store.journal.create(replace(new_run(KEEPING)), NOW)

    assert store.journal.break_off(run.id, WHY, at(2), "an observer") is None
    assert store.journal.break_off(4711, WHY, at(2), "an observer") is None
    store.journal.call_off(run.id, "no", at(3), "anna")
    assert store.journal.break_off(run.id, WHY, at(4), "an observer") is None
