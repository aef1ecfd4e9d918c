"""The latest look at the system's health in SQL. See ports/repositories.py for the contract."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select

from ha_tasks.model.plain import Json
from ha_tasks.store.control_tables import health_picture as pictures
from ha_tasks.store.engine import Database
from ha_tasks.store.rows import insert

ONLY = 1
"""The one row's id."""


class SqlHealthBook:
    """Implements ``HealthBook``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, body: Json, at: datetime) -> None:
        """See the port."""
        with self._database.writing() as connection:
            row = insert(connection, pictures).values(id=ONLY, body=body, taken_at=at)
            connection.execute(
                row.on_conflict_do_update(
                    index_elements=["id"],
                    set_={"body": row.excluded.body, "taken_at": row.excluded.taken_at},
                    where=pictures.c.taken_at <= row.excluded.taken_at,
                )
            )

    def latest(self) -> tuple[datetime, Json] | None:
        """See the port."""
        with self._database.reading() as connection:
            row = connection.execute(select(pictures)).one_or_none()
        return None if row is None else (row.taken_at, row.body)
