"""The contract of observations, ledger and schedule: on all three stores."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import pytest
from sqlalchemy import event

from ha_tasks.errors import StaleFence
from ha_tasks.model.probe import OutcomeKind, ProbeOutcome, Target
from ha_tasks.model.run import Outcome, Phase, after
from ha_tasks.names import Counter, Histogram
from ha_tasks.ports.ledger import Series, Worker
from ha_tasks.store import Store
from ha_tasks.store.observations import BITE
from tests.contract.conftest import AnyStore
from tests.plans import NOW, at, new_run


def outcome(second: float, kind: OutcomeKind = OutcomeKind.OK, *, instance: str = "web1") -> ProbeOutcome:
    """A probe sent at that second."""
    return ProbeOutcome(
        target=Target(service="db" if instance.startswith("pg") else "web", instance=instance),
        vantage="host/probe-a",
        sent_at=at(second),
        known_at=at(second + 0.02),
        kind=kind,
        rtt_s=0.02,
        detail="HTTP/1.1 5\0\udcff3",
        facts={"lsn": 2**60, "agent": None, "in_recovery": False},
        probe="http",
    )


def series(store: AnyStore) -> Mapping[tuple[str, tuple[tuple[str, str], ...]], Series]:
    """Every series by name and labels."""
    return {(s.name, tuple(sorted(s.labels.items()))): s for s in store.ledger.series()}


def test_outcomes_come_back_as_they_were_oldest_first(store: AnyStore):
    late, early = outcome(2), outcome(1, OutcomeKind.REFUSED)

    store.observations.record([late, early])

    found = store.observations.since(NOW)
    assert [(o.sent_at, o.known_at, o.kind, o.rtt_s) for o in found] == [
        (at(1), at(1.02), OutcomeKind.REFUSED, 0.02),
        (at(2), at(2.02), OutcomeKind.OK, 0.02),
    ]
    assert found[0].target == Target(service="web", instance="web1")
    assert found[0].facts == early.facts
    assert (found[0].vantage, found[0].probe) == ("host/probe-a", "http")
    assert found[0].detail.startswith("HTTP/1.1 5")


def test_outcomes_are_found_by_moment_and_service(store: AnyStore):
    store.observations.record([outcome(1), outcome(2), outcome(2, instance="pg1"), outcome(3)])

    assert [o.sent_at for o in store.observations.since(at(2), "web")] == [at(2), at(3)]
    assert [o.target.instance for o in store.observations.since(at(2))] == ["web1", "pg1", "web1"]
    assert store.observations.since(at(4)) == ()
    assert store.observations.since(NOW, "cache") == ()


def test_recorded_outcomes_are_counted_and_pruning_leaves_the_counters(store: AnyStore):
    store.observations.record([outcome(1), outcome(2, OutcomeKind.TIMEOUT)])
    store.observations.record([outcome(3, OutcomeKind.TIMEOUT)])
    store.observations.record([])

    assert store.observations.prune(at(3)) == 2

    assert [o.sent_at for o in store.observations.since(NOW)] == [at(3)]
    found = series(store)
    labels = (("probe", "http"), ("service_name", "web"))
    failed = (("probe", "http"), ("reason", "timeout"), ("service_name", "web"))
    assert found[str(Counter.PROBES), labels].value == 3
    assert found[str(Counter.PROBE_FAILURES), failed].value == 2
    assert found[str(Histogram.PROBE_DURATION), (("probe", "http"),)].value == 3


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_day_of_outcomes_is_pruned_in_bites(kind: str, request: pytest.FixtureRequest):
    """One statement would take longer than it may, and would be tried in vain for ever."""
    store: Store = request.getfixturevalue(f"{kind}_store")
    store.observations.record([outcome(0)] * (BITE + 7))
    store.observations.record([outcome(9)])
    bites: list[int] = []

    def deleted(connection, cursor, statement, *_):
        if statement.startswith("DELETE FROM probe_outcome"):
            bites.append(cursor.rowcount)

    engine = store.observations._database._engine
    event.listen(engine, "after_cursor_execute", deleted)
    try:
        assert store.observations.prune(at(5)) == BITE + 7
    finally:
        event.remove(engine, "after_cursor_execute", deleted)

    assert bites == [BITE, 7]
    assert len(store.observations.since(NOW)) == 1


def test_counters_add_up_by_name_and_labels(store: AnyStore):
    for labels in ({"a": "1", "b": "2"}, {"b": "2", "a": "1"}, {"a": "1", "b": "3"}):
        store.ledger.count("ha_things_total", labels)
    store.ledger.count("ha_things_total", {"a": "1", "b": "2"}, 0.5)

    found = series(store)

    assert found["ha_things_total", (("a", "1"), ("b", "2"))].value == 2.5
    assert found["ha_things_total", (("a", "1"), ("b", "3"))].value == 1
    assert all(s.buckets is None for s in found.values())


@pytest.mark.parametrize("name", [*Histogram, "ha_unlisted_seconds"])
def test_a_histogram_is_cumulative_with_the_count_beside_it(store: AnyStore, name: str):
    for value in (0.0, 0.5, 0.5001, 1e9):
        store.ledger.observe(name, {"recovery_type": "failover"}, value)

    (found,) = store.ledger.series()

    assert (found.name, found.labels, found.value) == (str(name), {"recovery_type": "failover"}, 4)
    assert found.total == pytest.approx(1e9 + 1.0001)
    assert found.buckets is not None
    assert list(found.buckets) == sorted(found.buckets)
    assert found.buckets[0.5] == 2
    assert max(found.buckets.values()) == 3
    assert all(count == sum(v <= bound for v in (0, 0.5, 0.5001)) for bound, count in found.buckets.items())


def intervals(store: AnyStore, since: datetime = NOW) -> list[tuple[str, datetime, datetime | None]]:
    """State, beginning and end of each interval."""
    return [(i.state, i.since, i.until) for i in store.ledger.intervals(since)]


def test_a_change_of_state_ends_one_interval_and_begins_another(store: AnyStore):
    changed = [
        store.ledger.service_state("web", "available", 1.0, at(0)),
        store.ledger.service_state("web", "available", 1.0, at(5)),
        store.ledger.service_state("web", "unavailable", 0.0, at(10)),
    ]

    assert changed == [True, False, True]
    assert intervals(store) == [("available", at(0), at(10)), ("unavailable", at(10), None)]


def test_a_back_dated_state_replaces_what_was_said_about_that_time(store: AnyStore):
    for state, second in (("available", 0), ("degraded", 10), ("available", 20)):
        store.ledger.service_state("web", state, 1.0, at(second))

    assert store.ledger.service_state("web", "unavailable", 0.0, at(8))

    assert intervals(store) == [("available", at(0), at(8)), ("unavailable", at(8), None)]


def test_a_back_dated_state_that_was_the_state_before_takes_that_interval_up_again(store: AnyStore):
    store.ledger.service_state("web", "available", 1.0, at(0))
    store.ledger.service_state("web", "unavailable", 0.0, at(10))

    assert store.ledger.service_state("web", "available", 1.0, at(10))

    assert intervals(store) == [("available", at(0), None)]


def test_a_state_from_before_everything_replaces_everything(store: AnyStore):
    store.ledger.service_state("web", "available", 1.0, at(5))
    store.ledger.service_state("cache", "available", 1.0, at(6))

    store.ledger.service_state("web", "unknown", None, at(1))

    assert intervals(store) == [("unknown", at(1), None), ("available", at(6), None)]


def test_intervals_are_those_that_reach_into_the_time_since(store: AnyStore):
    store.ledger.service_state("web", "available", 1.0, at(0))
    store.ledger.service_state("web", "unavailable", 0.0, at(10))
    store.ledger.service_state("web", "available", 1.0, at(20))

    assert intervals(store, at(10)) == [("unavailable", at(10), at(20)), ("available", at(20), None)]
    assert [i.service for i in store.ledger.intervals(at(99))] == ["web"]


def test_the_latest_known_score_is_kept(store: AnyStore):
    store.ledger.service_state("web", "available", 1.0, at(0))
    store.ledger.service_state("web", "available", 0.75, at(5))
    store.ledger.service_state("web", "unknown", None, at(9))
    store.ledger.service_state("db", "unknown", None, at(9))

    assert store.ledger.scores() == {"web": (0.75, at(5))}


def test_integrity_is_the_latest_result_of_each_check(store: AnyStore):
    store.ledger.integrity("restore", "db", True, at(1))
    store.ledger.integrity("restore", "db", False, at(2), "checksum of base/5/2619")
    store.ledger.integrity("canary", "db", True, at(3))

    assert store.ledger.integrity_results() == (
        ("canary", "db", True, at(3)),
        ("restore", "db", False, at(2)),
    )


def test_workers_are_those_heard_of(store: AnyStore):
    def beat(name: str, second: float, *queues: str) -> Worker:
        worker = Worker(name=name, kind="worker", queues=queues, pid=4711, heartbeat_at=at(second))
        store.ledger.heartbeat(worker)
        return worker

    beat("host/recovery-1", 1, "recovery")
    beat("host/old", 2)
    first = beat("host/recovery-1", 10, "recovery", "backups")
    second = beat("host/probe-a", 11)

    assert store.ledger.workers(at(10)) == (second, first)
    assert store.ledger.workers(at(12)) == ()


def test_the_schedule_keeps_the_latest_success_of_each_entry(store: AnyStore):
    assert store.schedule.successes() == {}

    for entry, second in (("sweep", 5), ("prune", 1), ("sweep", 3), ("sweep", 9)):
        store.schedule.succeeded(entry, at(second))

    assert store.schedule.successes() == {"sweep": at(9), "prune": at(1)}


def test_a_settlement_is_counted_with_it_and_a_refused_one_is_not(store: AnyStore):
    run, _ = store.journal.create(new_run(), at(0))
    taken = store.journal.claim(run.id, 1, Phase.DO, owner="h/w", now=at(1), lease_s=5)
    assert taken is not None
    ended = after(taken, Outcome(ok=True), at(1.5))
    store.journal.settle(taken, ended, taken.fence, outcome="ok", error="", due=None)
    with pytest.raises(StaleFence):
        store.journal.settle(taken, ended, taken.fence, outcome="ok", error="", due=None)

    labels = (("recovery_type", "restart"), ("step", "take_out"))
    found = series(store)[str(Histogram.STEP_DURATION), labels]
    assert (found.value, found.total) == (1, 0.5)
