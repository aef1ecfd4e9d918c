"""The state store: SQLAlchemy tables, repositories, migrations.

``Store(url)`` is all that the layers above need to know of it.
"""

from __future__ import annotations

from sqlalchemy import URL, text

from ha_tasks.store.clusters import SqlClusters
from ha_tasks.store.drills import SqlDrillBook
from ha_tasks.store.engine import Database, open_engine
from ha_tasks.store.incidents import SqlIncidents
from ha_tasks.store.journal import SqlJournal
from ha_tasks.store.ledger import SqlLedger
from ha_tasks.store.limits import SqlLimits
from ha_tasks.store.observations import SqlObservations
from ha_tasks.store.schedule import SqlScheduleBook
from ha_tasks.store.wanted import SqlWantedServers


class Store:
    """Every repository on one database: a SQLite file, or PostgreSQL.

    Connects to nothing until it is used. Threads may share it, a forked child gets its own connections.
    """

    def __init__(self, url: str | URL) -> None:
        self._url = url
        self._database = Database(url)
        self.journal = SqlJournal(self._database)
        self.incidents = SqlIncidents(self._database)
        self.observations = SqlObservations(self._database)
        self.clusters = SqlClusters(self._database)
        self.wanted = SqlWantedServers(self._database)
        self.limits = SqlLimits(self._database)
        self.ledger = SqlLedger(self._database)
        self.schedule = SqlScheduleBook(self._database)
        self.drills = SqlDrillBook(self._database)

    def migrate(self) -> None:
        """Brings the tables to the newest revision; idempotent, any number of processes at once."""
        # Alembic takes 0.1 s to import, and only processes that migrate need it.
        from ha_tasks.store.migration import migrate

        migrate(self._url)

    def ping(self) -> None:
        """Raises StoreUnreachable unless the store answers."""
        with self._database.reading() as connection:
            connection.execute(text("SELECT 1"))

    def dispose(self) -> None:
        """Closes idle connections; the store may be used again afterwards."""
        self._database.dispose()


__all__ = ["Store", "open_engine"]
