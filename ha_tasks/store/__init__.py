"""The state store: SQLAlchemy tables, repositories, migrations.

``Store(url)`` is all that the layers above need to know of it.
"""

from __future__ import annotations

from sqlalchemy import URL, make_url, text

from ha_tasks.store.audit import SqlAudit
from ha_tasks.store.clusters import SqlClusters
from ha_tasks.store.drills import SqlDrillBook
from ha_tasks.store.engine import BUSY_TIMEOUT_S, Database, open_engine
from ha_tasks.store.event_cursors import SqlEventCursors
from ha_tasks.store.health import SqlHealthBook
from ha_tasks.store.identity import SqlIdentity
from ha_tasks.store.incidents import SqlIncidents
from ha_tasks.store.journal import SqlJournal
from ha_tasks.store.leadership import SqlLeadership
from ha_tasks.store.ledger import SqlLedger
from ha_tasks.store.limits import SqlLimits
from ha_tasks.store.maintenance import SqlMaintenanceBook
from ha_tasks.store.observations import SqlObservations
from ha_tasks.store.registrations import SqlRegistrations
from ha_tasks.store.replication import SqlReplicationBook
from ha_tasks.store.requests import SqlRequestBook
from ha_tasks.store.revisions import SqlRevisions
from ha_tasks.store.schedule import SqlScheduleBook, SqlTickBook
from ha_tasks.store.versions import SqlVersions
from ha_tasks.store.wanted import SqlWantedServers


class Store:
    """Every repository on one database: a SQLite file, or PostgreSQL.

    Connects to nothing until it is used. Threads may share it, a forked child gets its own connections.
    """

    def __init__(self, url: str | URL, *, limit_s: float = BUSY_TIMEOUT_S, actor: str = "") -> None:
        """``limit_s``: the longest wait for another writer, a lock or a statement.

        ``actor``: whom the audit chain names where a verb is not told who asks.
        """
        self._url = url
        self._database = Database(url, limit_s=limit_s)
        self.audit = SqlAudit(self._database)
        self.revisions = SqlRevisions(self._database)
        self.versions = SqlVersions(self._database)
        self.journal = SqlJournal(self._database)
        self.incidents = SqlIncidents(self._database)
        self.observations = SqlObservations(self._database)
        self.clusters = SqlClusters(self._database, actor)
        self.wanted = SqlWantedServers(self._database, actor)
        self.limits = SqlLimits(self._database)
        self.maintenance = SqlMaintenanceBook(self._database)
        self.ledger = SqlLedger(self._database)
        self.schedule = SqlScheduleBook(self._database)
        self.leadership = SqlLeadership(self._database)
        self.ticks = SqlTickBook(self._database)
        self.drills = SqlDrillBook(self._database, actor)
        self.replication = SqlReplicationBook(self._database)
        self.health = SqlHealthBook(self._database)
        self.registrations = SqlRegistrations(self._database)
        self.identity = SqlIdentity(self._database, actor)
        self.requests = SqlRequestBook(self._database)
        self.cursors = SqlEventCursors(self._database)

    def migrate(self) -> None:
        """Brings the tables to the newest revision; idempotent, any number of processes at once."""
        # Alembic takes 0.1 s to import, and only processes that migrate need it.
        from ha_tasks.store.migration import migrate

        migrate(self._url)

    def ping(self) -> None:
        """Raises StoreUnreachable unless the store answers."""
        with self._database.reading() as connection:
            connection.execute(text("SELECT 1"))

    def system_identifier(self) -> str | None:
        """What a PostgreSQL server and all its standbys share; None for SQLite. Raises StoreUnreachable."""
        # Before anything is opened: the file of a new SQLite store is not there yet.
        if make_url(self._url).get_backend_name() != "postgresql":
            return None
        with self._database.reading() as connection:
            query = text("SELECT system_identifier FROM pg_control_system()")
            return str(connection.execute(query).scalar_one())

    def dispose(self) -> None:
        """Closes idle connections; the store may be used again afterwards."""
        self._database.dispose()


__all__ = ["Store", "open_engine"]
