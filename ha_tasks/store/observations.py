"""The ring of probe outcomes in SQL. See ports/repositories.py for the contract."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, select

from ha_tasks.model.plain import Json
from ha_tasks.model.probe import OutcomeKind, ProbeOutcome, Target
from ha_tasks.names import Counter, Histogram
from ha_tasks.store.engine import Database
from ha_tasks.store.rows import insert
from ha_tasks.store.tables import probe_outcome as outcomes_table
from ha_tasks.store.tallies import Tally

BITE = 5000
"""Rows that are deleted at once. All that a worker left behind that was away for a day would take longer
than a statement may, again with every try, and keep every other writer of SQLite waiting."""
MOST_BITES = 100


class SqlObservations:
    """Implements ``Observations``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, outcomes: Sequence[ProbeOutcome]) -> None:
        """See the port. Not idempotent: an outcome that is given twice is there twice."""
        if not outcomes:
            return
        tally = _tally(outcomes)
        with self._database.writing() as connection:
            connection.execute(insert(connection, outcomes_table), [_row(o) for o in outcomes])
            tally.write(connection)

    def since(self, moment: datetime, service: str | None = None) -> tuple[ProbeOutcome, ...]:
        """See the port."""
        query = select(outcomes_table).where(outcomes_table.c.sent_at >= moment)
        if service is not None:
            query = query.where(outcomes_table.c.service == service)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(outcomes_table.c.sent_at, outcomes_table.c.id)).all()
        return tuple(_outcome_of(row) for row in rows)

    def prune(self, before: datetime) -> int:
        """See the port. In bites, each its own transaction; what is left after many is for the next call."""
        old = select(outcomes_table.c.id).where(outcomes_table.c.sent_at < before)
        bite = old.order_by(outcomes_table.c.sent_at).limit(BITE)
        gone = 0
        for _ in range(MOST_BITES):
            with self._database.writing() as connection:
                count = connection.execute(
                    delete(outcomes_table).where(outcomes_table.c.id.in_(bite))
                ).rowcount
            gone += count
            if count < BITE:
                break
        return gone


def _tally(outcomes: Sequence[ProbeOutcome]) -> Tally:
    tally = Tally()
    for outcome in outcomes:
        labels = {"service_name": outcome.target.service, "probe": outcome.probe}
        tally.count(Counter.PROBES, labels)
        tally.observe(Histogram.PROBE_DURATION, {"probe": outcome.probe}, outcome.rtt_s)
        if not outcome.ok:
            tally.count(Counter.PROBE_FAILURES, {**labels, "reason": str(outcome.kind)})
    return tally


def _row(outcome: ProbeOutcome) -> Json:
    return {
        "service": outcome.target.service,
        "instance": outcome.target.instance,
        "vantage": outcome.vantage,
        "probe": outcome.probe,
        "sent_at": outcome.sent_at,
        "known_at": outcome.known_at,
        "kind": str(outcome.kind),
        "rtt_s": outcome.rtt_s,
        "detail": outcome.detail,
        "facts": dict(outcome.facts),
    }


def _outcome_of(row: Row[Any]) -> ProbeOutcome:
    return ProbeOutcome(
        target=Target(service=row.service, instance=row.instance),
        vantage=row.vantage,
        sent_at=row.sent_at,
        known_at=row.known_at,
        kind=OutcomeKind(row.kind),
        rtt_s=row.rtt_s,
        detail=row.detail,
        facts=row.facts,
        probe=row.probe,
    )
