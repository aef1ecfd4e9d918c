"""The wanted state of the balancers in SQL. See ports/repositories.py for the contract."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, select

from ha_tasks.model.balancer import ServerState, WantedServer
from ha_tasks.store.engine import Database
from ha_tasks.store.rows import next_value, put
from ha_tasks.store.tables import wanted_server as servers

GENERATION = "wanted_generation"


class SqlWantedServers:
    """Implements ``WantedServers``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> tuple[WantedServer, ...]:
        """See the port."""
        with self._database.reading() as connection:
            return _all(connection)

    def want(
        self, changes: Mapping[tuple[str, str], ServerState], reason: str, now: datetime
    ) -> tuple[WantedServer, ...]:
        """See the port. The generation counts changes of all servers, so it orders them all."""
        with self._database.writing() as connection:
            if changes:
                generation = next_value(connection, GENERATION)
            for (backend, server), state in sorted(changes.items()):
                put(
                    connection,
                    servers,
                    {
                        "backend": backend,
                        "server": server,
                        "state": str(state),
                        "generation": generation,
                        "reason": reason,
                        "changed_at": now,
                    },
                )
            return _all(connection)


def _all(connection: Connection) -> tuple[WantedServer, ...]:
    rows = connection.execute(select(servers).order_by(servers.c.backend, servers.c.server))
    return tuple(
        WantedServer(
            backend=row.backend,
            server=row.server,
            state=ServerState(row.state),
            generation=row.generation,
            reason=row.reason,
        )
        for row in rows
    )
