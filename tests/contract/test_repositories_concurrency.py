"""Many at once: exactly one wins, on all three stores; between processes on the real ones."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier as ProcessBarrier
from threading import Barrier
from typing import TypeVar

import pytest

from ha_tasks.errors import IdempotencyConflict, Refused, ScopeBusy, StaleEpoch, StaleFence
from ha_tasks.model.run import Outcome, Phase, after
from ha_tasks.store import Store
from ha_tasks.store.engine import Database
from tests.contract.conftest import AnyStore
from tests.contract.test_repositories_incidents import opened
from tests.contract.test_repositories_limits import CLUSTER
from tests.plans import NOW, at, new_run, on_scope, plan_of, planned

T = TypeVar("T")
THREADS = 8


def all_at_once(call: Callable[[int], T]) -> list[T | Refused]:
    """What each of the threads that call at the same moment is answered, or refused with."""
    barrier = Barrier(THREADS)

    def one(number: int) -> T | Refused:
        barrier.wait(timeout=10)
        try:
            return call(number)
        except Refused as refusal:
            return refusal

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, range(THREADS)))


def refusals(answers: list[T | Refused]) -> set[type[Refused]]:
    """Which refusals there are."""
    return {type(answer) for answer in answers if isinstance(answer, Refused)}


def test_of_many_claims_one_wins(store: AnyStore):
    run, _ = store.journal.create(new_run(), NOW)

    answers = all_at_once(
        lambda n: store.journal.claim(run.id, 1, Phase.DO, owner=f"w{n}", now=at(1), lease_s=3)
    )

    (winner,) = [answer for answer in answers if answer is not None]
    assert store.journal.get(run.id) == winner
    assert [a.worker for a in store.journal.attempts(run.id)] == [winner.lease_owner]


def test_claims_of_different_runs_have_different_fences(store: AnyStore):
    made = [store.journal.create(on_scope(f"s{n}", key=f"key-{n}"), NOW)[0] for n in range(THREADS)]

    answers = all_at_once(
        lambda n: store.journal.claim(made[n].id, 1, Phase.DO, owner="w", now=at(1), lease_s=3)
    )

    assert len({taken.fence for taken in answers}) == THREADS


def test_of_many_requests_with_one_key_one_makes_the_run(store: AnyStore):
    answers = all_at_once(lambda n: store.journal.create(new_run(), at(n)))

    assert len({run.id for run, _ in answers}) == 1
    assert sum(message is not None for _, message in answers) == 1


def test_of_many_requests_for_one_scope_one_makes_the_run(store: AnyStore):
    answers = all_at_once(lambda n: store.journal.create(on_scope("db", key=f"key-{n}"), NOW))

    assert refusals(answers) == {ScopeBusy}
    assert len(store.journal.active()) == len(store.journal.recent()) == 1


def test_of_many_plans_under_one_key_one_makes_the_run_and_the_rest_conflict(store: AnyStore):
    plans = [plan_of(planned(1, attempts=n + 1)) for n in range(THREADS)]

    answers = all_at_once(lambda n: store.journal.create(new_run(plans[n]), NOW))

    assert refusals(answers) == {IdempotencyConflict}
    assert len(store.journal.recent()) == 1


def test_of_many_settlements_of_one_step_one_is_written(store: AnyStore):
    run, _ = store.journal.create(new_run(), NOW)
    taken = store.journal.claim(run.id, 1, Phase.DO, owner="w", now=at(1), lease_s=3)
    assert taken is not None
    ended = after(taken, Outcome(ok=True), at(2))

    answers = all_at_once(
        lambda _: store.journal.settle(taken, ended, taken.fence, outcome="ok", error="", due=None)
    )

    assert refusals(answers) == {StaleFence}
    assert len([a for a in answers if not isinstance(a, Refused)]) == 1


def test_of_many_sweepers_one_is_given_a_message(store: AnyStore):
    made = [store.journal.create(on_scope(scope, key=scope), NOW)[0].id for scope in ("db", "web")]

    answers = all_at_once(lambda _: store.journal.sweep(at(5), unsent_after_s=1, silent_after_s=5))

    assert sorted(m.kwargs["run"] for answer in answers for m in answer) == made


def test_of_many_observers_one_opens_the_incident(store: AnyStore):
    answers = all_at_once(lambda n: opened(store.incidents, at(n)))

    assert len({incident.id for incident in answers}) == 1
    assert len(store.incidents.timeline(answers[0].id)) == 1


def test_of_many_controllers_one_opens_the_epoch(store: AnyStore):
    store.clusters.register(CLUSTER, NOW)

    answers = all_at_once(lambda n: store.clusters.advance("db", 1, at(n), new_epoch=True, primary=f"pg{n}"))

    (winner,) = [answer for answer in answers if not isinstance(answer, Refused)]
    assert refusals(answers) == {StaleEpoch}
    assert store.clusters.get("db") == winner


def test_of_many_observers_one_changes_the_state_of_a_service(store: AnyStore):
    store.ledger.service_state("web", "available", 1.0, at(0))

    answers = all_at_once(lambda n: store.ledger.service_state("web", "unavailable", 0.0, at(5)))

    assert answers.count(True) == 1
    assert len(store.ledger.intervals(NOW)) == 2


def test_no_count_is_lost(store: AnyStore):
    def add(number: int) -> None:
        for label in sorted("abc", reverse=bool(number % 2)):
            store.ledger.count("ha_things_total", {"label": label})
            store.ledger.observe("recovery_time_seconds", {"recovery_type": label}, 1.0)

    all_at_once(add)

    assert [s.value for s in store.ledger.series()] == [THREADS] * 6


def test_generations_and_refusals_are_counted_one_by_one(store: AnyStore):
    incident = opened(store.incidents)

    answers = all_at_once(
        lambda n: (
            store.limits.refused(incident.id, "blind", f"{n}", NOW),
            store.schedule.succeeded("sweep", at(n)),
        )
    )

    assert sum(new for new, _ in answers) == 1
    assert store.schedule.successes() == {"sweep": at(THREADS - 1)}


def race_for_steps(
    url: str, owner: str, runs: list[int], barrier: ProcessBarrier, did: SimpleQueue[list[tuple[int, int]]]
) -> None:
    """In a process of its own: takes whatever it can of every run; tells (run, step) of what it did."""
    store = Store(url)
    done = []
    barrier.wait(timeout=10)
    for run in runs:
        for step in (1, 2, 3):
            taken = store.journal.claim(run, step, Phase.DO, owner=owner, now=at(1), lease_s=60)
            if taken is not None:
                ended = after(taken, Outcome(ok=True), at(1))
                store.journal.settle(taken, ended, taken.fence, outcome="ok", error="", due=None)
                done.append((run, step))
    store.dispose()
    did.put(done)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_of_two_processes_one_does_each_step(kind: str, request: pytest.FixtureRequest):
    store: Store = request.getfixturevalue(f"{kind}_store")
    made = [store.journal.create(on_scope(f"s{n}", key=f"key-{n}"), NOW)[0].id for n in range(20)]
    context = multiprocessing.get_context("fork")
    barrier, did = context.Barrier(2), context.SimpleQueue()
    url = request.getfixturevalue(f"{kind}_url")
    racers = [context.Process(target=race_for_steps, args=(url, owner, made, barrier, did)) for owner in "ab"]

    for racer in racers:
        racer.start()
    done = sorted(did.get() + did.get())
    for racer in racers:
        racer.join(timeout=10)

    assert [racer.exitcode for racer in racers] == [0, 0]
    assert len(done) == len(set(done)) >= 20
    recorded = [(a.worker, a.outcome) for run in made for a in store.journal.attempts(run)]
    assert len(recorded) == len(done)
    assert {outcome for _, outcome in recorded} == {"ok"}


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_forked_child_uses_connections_of_its_own(kind: str, request: pytest.FixtureRequest):
    store: Store = request.getfixturevalue(f"{kind}_store")
    run, _ = store.journal.create(new_run(), NOW)

    child = os.fork()
    if child == 0:
        status = 1
        try:
            taken = store.journal.claim(run.id, 1, Phase.DO, owner="child", now=at(1), lease_s=3)
            store.dispose()
            status = int(taken is None)
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert store.journal.get(run.id).lease_owner == "child"
    assert store.journal.renew(run.id, store.journal.get(run.id).fence, at(2), 3)


def test_a_forked_child_does_not_talk_over_its_parent_s_connection(postgres_url: str):
    database = Database(postgres_url)

    def backend() -> int:
        with database.reading() as connection:
            return int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())

    mine = backend()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = int(backend() == mine)
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert backend() == mine
    database.dispose()
