"""What is asked several times a second reads only what it needs, however much history there is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from sqlalchemy import event

from ha_tasks.store import Store
from tests.plans import NOW

HOT: dict[str, Callable[[Store], object]] = {
    "active runs": lambda store: store.journal.active(),
    "current incidents": lambda store: store.incidents.current(),
    "runs of the last hour": lambda store: store.journal.started_since(NOW),
    "a request": lambda store: store.requests.get("unknown"),
    "new events": lambda store: store.audit.after(4, 1),
    "outcomes": lambda store: store.observations.since(NOW, "web"),
}
LONG = {"run", "incident", "recovery_request", "audit_entry", "probe_outcome", "step"}
"""Tables that keep their history."""


@pytest.mark.parametrize("name", sorted(HOT))
def test_a_hot_query_goes_through_an_index(sqlite_store: Store, name: str):
    asked: list[tuple[str, tuple[object, ...]]] = []
    engine = sqlite_store.journal._database._engine

    def seen(connection, cursor, statement, parameters, *_):
        if statement.startswith("SELECT"):
            asked.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", seen)
    try:
        with suppress(KeyError):
            HOT[name](sqlite_store)
    finally:
        event.remove(engine, "before_cursor_execute", seen)

    assert asked
    with engine.connect() as connection:
        for statement, parameters in asked:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            steps = [row[3] for row in plan]
            assert not [step for step in steps if step in {f"SCAN {table}" for table in LONG}], steps
