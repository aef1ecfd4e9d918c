"""The load of a trial: writers through the balancer, one of them anew each time, one past it per node."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from uuid import uuid4

from ha_tasks.adapters.clock import SYSTEM_CLOCK
from ha_tasks.adapters.deadline import Deadline
from ha_tasks.adapters.postgres_session import Login, Session, SessionFailed
from ha_tasks.adapters.steady_load import SteadyLoad
from ha_tasks.errors import ServiceUnreachable
from ha_tasks.model.load import Ack, Miss
from ha_tasks.model.probe import OutcomeKind

WRITERS = 4
PAUSE_S = 0.05
TIMEOUT_S = 1.0
"""Of connecting, and of each write."""
_LOCAL_COMMIT = "01000"


class Writer:
    """Writes rows to one address; ``anew``: over a new connection each time."""

    def __init__(self, number: int, table: str, address: str, login: Login, *, anew: bool = False) -> None:
        self._number = number
        self._address = address
        self._login = login
        self._anew = anew
        self._session: Session | None = None
        self.acknowledged = 0
        self._sql = (
            f"INSERT INTO {table} (writer, seq) VALUES ($1, $2) "  # noqa: S608 - our own name
            "RETURNING current_setting('cluster_name'), "
            "('x' || substring(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int"
        )

    def request(self, seq: int) -> tuple[str, int]:
        """See SteadyLoad. A commit that no standby has, though one is to be waited for, is none."""
        if self._session is None:
            within = Deadline(SYSTEM_CLOCK, TIMEOUT_S)
            self._session = Session(self._address, self._login, within=within, statement_timeout_s=30.0)
        session = self._session
        try:
            within = Deadline(SYSTEM_CLOCK, TIMEOUT_S)
            node, timeline = session.query(self._sql, str(self._number), str(seq), within=within)[0]
        except SessionFailed:
            self.close()
            raise
        if _LOCAL_COMMIT in session.warnings:
            raise SessionFailed(OutcomeKind.ERROR, "committed locally only", _LOCAL_COMMIT)
        if self._anew:
            self.close()
        self.acknowledged += 1
        return node or "", int(timeline or 0)

    def close(self) -> None:
        """Idempotent."""
        if self._session is not None:
            self._session.close()
        self._session = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the clients saw: those through the balancer, the one that connects anew, those past it."""

    through: tuple[Ack, ...]
    anew: tuple[Ack, ...]
    direct: tuple[Ack, ...]
    failed: int


class TrialLoad:
    """``start`` -> ... -> ``stop`` -> ``present`` once the system is whole again -> ``drop``."""

    def __init__(self, entry: str, nodes: Mapping[str, str], login: Login) -> None:
        """``nodes``: name -> ``host:port`` past the balancer."""
        self.table = f"bench_{uuid4().hex[:12]}"
        self._entry = entry
        self._login = login
        places = [*[(entry, False)] * WRITERS, (entry, True), *((a, False) for a in nodes.values())]
        self._clients = [
            Writer(no, self.table, address, login, anew=anew) for no, (address, anew) in enumerate(places)
        ]
        self._load = SteadyLoad(self._clients, SYSTEM_CLOCK, pause_s=PAUSE_S)

    def start(self) -> None:
        """Creates the table and returns at the first acknowledgement."""
        self._once(
            f"CREATE TABLE {self.table} (writer int, seq int, PRIMARY KEY (writer, seq))", within_s=10.0
        )
        self._load.start(10.0)

    def acknowledged(self) -> int:
        """How many so far, of those through the balancer: one past it may find a primary long before."""
        return sum(client.acknowledged for client in self._clients[:WRITERS])

    def stop(self) -> Seen:
        """Ends every client."""
        acks, misses = self._load.stop()
        through, direct = range(WRITERS), range(WRITERS + 1, len(self._clients))
        return Seen(
            through=tuple(a for a in acks if a.writer in through),
            anew=tuple(a for a in acks if a.writer == WRITERS),
            direct=tuple(a for a in acks if a.writer in direct),
            failed=_failed(misses),
        )

    def present(self, within_s: float = 20.0) -> frozenset[tuple[int, int]] | None:
        """The rows that are there; None when they cannot be read in time."""
        ends = time.monotonic() + within_s
        while time.monotonic() < ends:
            with suppress(ServiceUnreachable):
                rows = self._once(f"SELECT writer, seq FROM {self.table}", within_s=5.0)  # noqa: S608
                return frozenset((int(writer or 0), int(seq or 0)) for writer, seq in rows)
            time.sleep(0.2)
        return None

    def drop(self) -> None:
        """A table that is left over harms nothing."""
        with suppress(ServiceUnreachable):
            self._once(f"DROP TABLE {self.table}", within_s=5.0)

    def _once(self, sql: str, within_s: float) -> list[tuple[str | None, ...]]:
        within = Deadline(SYSTEM_CLOCK, within_s)
        with Session(self._entry, self._login, within=within, statement_timeout_s=within_s) as session:
            return session.query(sql, within=within)


def _failed(misses: tuple[Miss, ...]) -> int:
    """Of those through the balancer: a direct writer to a standby never succeeds."""
    return sum(m.writer <= WRITERS for m in misses)
