"""What the sidecar reads, in SQL. See ports/repositories.py for the contract."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import select

from ha_tasks.ports.ledger import Interval, Series, Worker
from ha_tasks.store.availability import change_state, reaching_into
from ha_tasks.store.engine import Database
from ha_tasks.store.rows import put
from ha_tasks.store.tables import integrity_check, service_score
from ha_tasks.store.tables import worker as workers
from ha_tasks.store.tallies import Tally, all_series


class SqlLedger:
    """Implements ``Ledger``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def count(self, name: str, labels: Mapping[str, str], by: float = 1.0) -> None:
        """See the port. Not idempotent."""
        tally = Tally()
        tally.count(name, labels, by)
        with self._database.writing() as connection:
            tally.write(connection)

    def observe(self, name: str, labels: Mapping[str, str], value: float) -> None:
        """See the port. Not idempotent."""
        tally = Tally()
        tally.observe(name, labels, value)
        with self._database.writing() as connection:
            tally.write(connection)

    def series(self) -> tuple[Series, ...]:
        """See the port. Counters first, then histograms, each by name and labels."""
        with self._database.reading() as connection:
            return all_series(connection)

    def service_state(
        self,
        service: str,
        state: str,
        score: float | None,
        at: datetime,
        *,
        judged_at: datetime | None = None,
    ) -> bool:
        """See the port. Idempotent."""
        row = {"service": service, "score": score, "judged_at": judged_at or at}
        with self._database.writing() as connection:
            if score is not None:
                put(connection, service_score, row)
            return change_state(connection, service, state, at)

    def intervals(self, since: datetime) -> tuple[Interval, ...]:
        """See the port. By their beginning."""
        with self._database.reading() as connection:
            return reaching_into(connection, since)

    def scores(self) -> Mapping[str, tuple[float, datetime]]:
        """See the port."""
        with self._database.reading() as connection:
            rows = connection.execute(select(service_score)).all()
        return {row.service: (row.score, row.judged_at) for row in rows}

    def integrity(self, check: str, target: str, ok: bool, at: datetime, detail: str = "") -> None:
        """See the port. Idempotent."""
        row = {"name": check, "target": target, "ok": ok, "detail": detail, "checked_at": at}
        with self._database.writing() as connection:
            put(connection, integrity_check, row)

    def integrity_results(self) -> tuple[tuple[str, str, bool, datetime], ...]:
        """See the port. By check and target."""
        query = select(integrity_check).order_by(integrity_check.c.name, integrity_check.c.target)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return tuple((row.name, row.target, row.ok, row.checked_at) for row in rows)

    def heartbeat(self, worker: Worker) -> None:
        """See the port. Idempotent."""
        row = {
            "name": worker.name,
            "kind": worker.kind,
            "queues": list(worker.queues),
            "pid": worker.pid,
            "heartbeat_at": worker.heartbeat_at,
            "revision": worker.revision,
        }
        with self._database.writing() as connection:
            put(connection, workers, row)

    def workers(self, since: datetime) -> tuple[Worker, ...]:
        """See the port. By name."""
        query = select(workers).where(workers.c.heartbeat_at >= since).order_by(workers.c.name)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return tuple(
            Worker(
                name=row.name,
                kind=row.kind,
                queues=tuple(row.queues),
                pid=row.pid,
                heartbeat_at=row.heartbeat_at,
                revision=row.revision,
            )
            for row in rows
        )
