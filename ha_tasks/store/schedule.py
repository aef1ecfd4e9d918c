"""Latest successes of the beat schedule in SQL. See ports/repositories.py for the contract."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import select

from ha_tasks.store.engine import Database
from ha_tasks.store.rows import insert
from ha_tasks.store.tables import schedule_entry as entries


class SqlScheduleBook:
    """Implements ``ScheduleBook``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def succeeded(self, entry: str, at: datetime) -> None:
        """See the port. Idempotent."""
        with self._database.writing() as connection:
            statement = insert(connection, entries).values(name=entry, succeeded_at=at)
            later = statement.excluded.succeeded_at
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["name"],
                    set_={"succeeded_at": later},
                    where=entries.c.succeeded_at < later,
                )
            )

    def successes(self) -> Mapping[str, datetime]:
        """See the port."""
        with self._database.reading() as connection:
            rows = connection.execute(select(entries)).all()
        return {row.name: row.succeeded_at for row in rows}
