"""The latest picture of each cluster's replication in SQL. See ports/repositories.py for the contract."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import select

from ha_tasks.model.plain import Json
from ha_tasks.store.engine import Database
from ha_tasks.store.rows import insert
from ha_tasks.store.tables import replication_picture as pictures


class SqlReplicationBook:
    """Implements ``ReplicationBook``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, service: str, body: Json, at: datetime) -> None:
        """See the port."""
        with self._database.writing() as connection:
            row = insert(connection, pictures).values(service=service, body=body, taken_at=at)
            connection.execute(
                row.on_conflict_do_update(
                    index_elements=["service"],
                    set_={"body": row.excluded.body, "taken_at": row.excluded.taken_at},
                    where=pictures.c.taken_at <= row.excluded.taken_at,
                )
            )

    def latest(self) -> Mapping[str, tuple[datetime, Json]]:
        """See the port."""
        with self._database.reading() as connection:
            rows = connection.execute(select(pictures).order_by(pictures.c.service)).all()
        return {row.service: (row.taken_at, row.body) for row in rows}
