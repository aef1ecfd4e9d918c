"""Reports of drills in SQL. See ports/repositories.py for the contract."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select

from ha_tasks.model.deeds import drill_judged
from ha_tasks.model.plain import Json
from ha_tasks.store.audit import record
from ha_tasks.store.engine import Database
from ha_tasks.store.rows import insert
from ha_tasks.store.tables import drill as drills


class SqlDrillBook:
    """Implements ``DrillBook``; ``actor``: the process that the audit chain names."""

    def __init__(self, database: Database, actor: str = "") -> None:
        self._database = database
        self._actor = actor

    def add(self, scenario: str, verdict: str, body: Json, at: datetime) -> int:
        """See the port."""
        with self._database.writing() as connection:
            statement = insert(connection, drills).values(
                scenario=scenario, verdict=str(verdict), body=body, reported_at=at
            )
            number = int(connection.execute(statement.returning(drills.c.id)).scalar_one())
            record(connection, at, drill_judged(number, scenario, verdict, self._actor))
            return number

    def latest(self, limit: int = 20) -> tuple[tuple[int, datetime, Json], ...]:
        """See the port."""
        with self._database.reading() as connection:
            rows = connection.execute(select(drills).order_by(drills.c.id.desc()).limit(limit)).all()
        return tuple((row.id, row.reported_at, row.body) for row in rows)
