"""The wanted state of the balancers in SQL. See ports/repositories.py for the contract."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, select

from ha_tasks.model.balancer import ServerState, WantedServer
from ha_tasks.model.deeds import servers_wanted
from ha_tasks.ports.repositories import Reign, Warrant
from ha_tasks.store.audit import record
from ha_tasks.store.clusters import must_reign
from ha_tasks.store.engine import Database
from ha_tasks.store.rows import next_value, put
from ha_tasks.store.runs import must_hold
from ha_tasks.store.tables import wanted_server as servers

GENERATION = "wanted_generation"


class SqlWantedServers:
    """Implements ``WantedServers``; ``actor``: the process that the audit chain names."""

    def __init__(self, database: Database, actor: str = "") -> None:
        self._database = database
        self._actor = actor

    def all(self) -> tuple[WantedServer, ...]:
        """See the port."""
        with self._database.reading() as connection:
            return _all(connection)

    def want(
        self,
        changes: Mapping[tuple[str, str], ServerState],
        reason: str,
        now: datetime,
        under: Warrant | Reign | None = None,
    ) -> tuple[WantedServer, ...]:
        """See the port. The generation counts changes of all servers, so it orders them all."""
        with self._database.writing() as connection:
            _must_be_right(connection, under)
            if changes:
                generation = next_value(connection, GENERATION)
            before = _all(connection)
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
            wanted = _all(connection)
            run = under.run if isinstance(under, Warrant) else None
            record(connection, now, *servers_wanted(before, changes, self._actor, reason, run))
            return wanted


def _must_be_right(connection: Connection, under: Warrant | Reign | None) -> None:
    if isinstance(under, Warrant):
        must_hold(connection, under.run, under.fence)
    elif under is not None:
        must_reign(connection, under.cluster, under.epoch)


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
