"""A store with the rows of a working installation in it, and all that a database says of itself."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, MetaData, inspect, select

from ha_tasks.model.balancer import ServerState
from ha_tasks.model.cluster import Cluster, ClusterState, SyncSet, Unfinished
from ha_tasks.model.incident import IncidentState
from ha_tasks.model.probe import OutcomeKind, ProbeOutcome, Target
from ha_tasks.model.run import Outcome, Phase, Run, after
from ha_tasks.names import Counter, Histogram
from ha_tasks.ports.ledger import Worker
from ha_tasks.store import Store
from tests.contract.test_repositories_incidents import opened
from tests.plans import NOW, at, new_run, on_scope, plan_of, planned

Rows = dict[str, list[dict[str, Any]]]


def fill(store: Store) -> None:
    """Incidents, runs in every condition, attempts, the outbox, clusters, counters: what a month leaves."""
    _incidents(store)
    _runs(store)
    _clusters(store)
    _numbers(store)


def _incidents(store: Store) -> None:
    first = opened(store.incidents, key="first")
    store.incidents.move(first.id, IncidentState.RECOVERING, at(1), "w1", "run 1 started", run=1)
    store.incidents.move(first.id, IncidentState.RESOLVED, at(9), "w1", "it serves: 'ok' \\ \N{SNOWMAN}")
    second = opened(store.incidents, key="second")
    store.incidents.move(second.id, IncidentState.ESCALATED, at(5), "w1", "a NUL \0 from a probe")
    store.limits.refused(second.id, "cool_down", "it cools down", at(2))
    store.limits.refused(second.id, "cool_down", "it still does", at(3))
    opened(store.incidents, key="third")


def _runs(store: Store) -> None:
    ended, _ = store.journal.create(new_run(plan_of(planned(1)), key="ended"), NOW)
    _taken(store, ended, Outcome(ok=True, output={"pid": 4711, "nested": {"a": [1, None, "\u0000"]}}))
    failed, _ = store.journal.create(on_scope("web/web2", key="failed"), at(1))
    _taken(store, failed, Outcome(ok=False, error="connection refused", passing=True, retry_after_s=0.5))
    half, message = store.journal.create(on_scope("db", key="half"), at(2))
    store.journal.claim(half.id, 1, Phase.DO, owner="worker-2", now=at(3), lease_s=3)
    assert message is not None
    store.journal.sent([message], at(3))
    store.journal.create(on_scope("cache", key="waiting"), at(4))
    store.journal.raise_fence(500)


def _taken(store: Store, run: Run, outcome: Outcome) -> None:
    taken = store.journal.claim(run.id, 1, Phase.DO, owner="worker-1", now=at(5), lease_s=3)
    assert taken is not None
    store.journal.capture(taken.id, taken.fence, 1, {"was": "ready"})
    done = after(taken, outcome, at(6))
    said = "ok" if outcome.ok else "failed"
    store.journal.settle(taken, done, taken.fence, outcome=said, error=outcome.error, due=None)


def _clusters(store: Store) -> None:
    old, new = SyncSet(quorum=1, members=("pg2", "pg3")), SyncSet(quorum=1, members=("pg3",))
    store.clusters.register(
        Cluster(
            name="db",
            epoch=7_000_000_000,
            primary="pg1",
            state=ClusterState.FAILING,
            sets=(old, new),
            unfinished=(Unfinished(epoch=6, candidate="pg2", sync_set=old),),
        ),
        NOW,
    )
    store.wanted.want(
        {("pg_write", "pg1"): ServerState.READY, ("pg_write", "pg2"): ServerState.MAINT}, "first start", NOW
    )
    store.limits.cool("db", "postgres-failover", at(600))
    store.limits.set_switch("stop", True, "anna", "the racks move", NOW)
    store.limits.set_switch("observe", False, "ben", "done", at(1))


def _numbers(store: Store) -> None:
    store.ledger.count(Counter.RECOVERIES, {"recovery_type": "failover"}, 41.0)
    for value in (0.01, 0.3, 7.0, 4000.0):
        store.ledger.observe(Histogram.RECOVERY_TIME, {"recovery_type": "failover"}, value)
    store.ledger.service_state("db", "available", 1.0, NOW)
    store.ledger.service_state("db", "unavailable", 0.0, at(5))
    store.ledger.integrity("replication", "db", True, at(3), "all stream")
    store.ledger.heartbeat(
        Worker(name="h/w1", kind="worker", queues=("probes", "recovery"), pid=42, heartbeat_at=at(1))
    )
    store.schedule.succeeded("sweep", at(2))
    store.drills.add("kill-primary", "pass", {"outage_s": 1.2}, at(8))
    store.observations.record(
        [
            ProbeOutcome(
                target=Target(service="db", instance="pg1"),
                vantage="h/a",
                sent_at=at(1),
                known_at=at(1.1),
                kind=OutcomeKind.ERROR,
                rtt_s=0.1,
                detail="FATAL:  too many clients",
                facts={"lsn": 2**40, "agent": None},
                probe="postgres",
            )
        ]
    )


def rows_of(engine: Engine) -> Rows:
    """Every row of every table, in the order of the keys, as the database has them."""
    found = MetaData()
    found.reflect(engine)
    with engine.connect() as connection:
        return {
            table.name: [
                dict(row)
                for row in connection.execute(select(table).order_by(*table.primary_key.columns)).mappings()
            ]
            for table in found.sorted_tables
        }


def shape_of(engine: Engine) -> dict[str, Any]:
    """Every table's columns, keys and indexes, as text that two databases can be compared by."""
    seen = inspect(engine)
    return {
        table: {
            "columns": sorted(
                (c["name"], str(c["type"]), c["nullable"], str(c["default"])) for c in seen.get_columns(table)
            ),
            "key": seen.get_pk_constraint(table)["constrained_columns"],
            "unique": sorted(str(u["column_names"]) for u in seen.get_unique_constraints(table)),
            "foreign": sorted(
                (str(f["constrained_columns"]), f["referred_table"], str(f["options"]))
                for f in seen.get_foreign_keys(table)
            ),
            "indexes": sorted(
                (
                    str(i["name"]),
                    str(i["column_names"]),
                    bool(i["unique"]),
                    _where(i.get("dialect_options", {})),
                )
                for i in seen.get_indexes(table)
            ),
        }
        for table in seen.get_table_names()
    }


def _where(options: dict[str, Any]) -> str:
    return " ".join(str(value) for name, value in sorted(options.items()) if name.endswith("_where"))
