"""A steady load of writes to PostgreSQL, through the entry that its clients use."""

from __future__ import annotations

from contextlib import suppress
from uuid import uuid4

from ha_tasks.adapters.deadline import Deadline
from ha_tasks.adapters.postgres_session import Login, Session, SessionFailed
from ha_tasks.adapters.steady_load import SteadyLoad
from ha_tasks.errors import ActionFailed, ServiceUnreachable
from ha_tasks.model.load import LoadReport
from ha_tasks.model.probe import OutcomeKind
from ha_tasks.ports.clock import Clock

CONNECT_TIMEOUT_S = 2.0
"""What a libpq client waits at least; a shorter wait here would flatter the balancer."""
WRITE_TIMEOUT_S = 1.0
SETTLE_TIMEOUT_S = 10.0
"""For beginning, for reading back, and for dropping the table, each."""
_LOCAL_COMMIT = "01000"
"""SQLSTATE of the warning that a commit waits for no standby any more (``syncrep.c``)."""


class WriteLoad:
    """See ports/faults.py. Writes into a table of its own, in the first schema of the role's search path.

    The role needs CREATE there. ``stop`` drops the table when everything acknowledged was found in it;
    otherwise it stays as evidence until ``drop``.
    """

    def __init__(
        self,
        *,
        entry: str,
        login: Login,
        clock: Clock,
        writers: int,
        pause_s: float,
        settle_timeout_s: float = SETTLE_TIMEOUT_S,
        write_timeout_s: float = WRITE_TIMEOUT_S,
    ) -> None:
        self.table = f"ha_load_{uuid4().hex[:12]}"
        self._entry = entry
        self._login = login
        self._clock = clock
        self._settle_timeout_s = settle_timeout_s
        self._writers = [
            _Writer(
                number, self.table, entry=entry, login=login, clock=clock, write_timeout_s=write_timeout_s
            )
            for number in range(writers)
        ]
        self._load = SteadyLoad(self._writers, clock, pause_s=pause_s)

    def start(self) -> None:
        """Creates the table and begins. Raises ServiceUnreachable, or ActionFailed for a missing right."""
        try:
            self._once(
                f"CREATE TABLE {self.table} (writer int, seq int, "
                "written_at timestamptz DEFAULT now(), PRIMARY KEY (writer, seq))"
            )
        except SessionFailed as failure:
            if failure.passing:
                raise
            raise ActionFailed(f"{self._entry}: {failure.detail}") from failure
        self._load.start(self._settle_timeout_s)

    def acknowledged(self) -> int:
        """How many so far."""
        return self._load.acknowledged()

    def stop(self) -> LoadReport:
        """Ends, reads back through the entry (``present`` None: it could not in time), and reports."""
        acks, misses = self._load.stop()
        present = self._read_back()
        if present is not None and all((a.writer, a.seq) in present for a in acks):
            with suppress(ServiceUnreachable):  # a table that is left over harms nothing
                self.drop()
        return LoadReport(acks=acks, misses=misses, present=present)

    def drop(self) -> None:
        """Drops the table; idempotent. Raises ServiceUnreachable."""
        self._once(f"DROP TABLE IF EXISTS {self.table}")

    def _read_back(self) -> frozenset[tuple[int, int]] | None:
        """Tries until the deadline: the entry may be between two primaries just now."""
        deadline = Deadline(self._clock, self._settle_timeout_s)
        while True:
            try:
                rows = self._once(f"SELECT writer, seq FROM {self.table}")  # noqa: S608 - our own name
                return frozenset((int(writer or 0), int(seq or 0)) for writer, seq in rows)
            except SessionFailed as failure:
                if not failure.passing or deadline.passed:
                    return None
                self._clock.pause(0.1)

    def _once(self, sql: str) -> list[tuple[str | None, ...]]:
        connecting = Deadline(self._clock, CONNECT_TIMEOUT_S)
        limit_s = self._settle_timeout_s
        with Session(self._entry, self._login, within=connecting, statement_timeout_s=limit_s) as session:
            return session.query(sql, within=Deadline(self._clock, limit_s))


class _Writer:
    """One writer with its own connection, which it makes anew at once when it is lost."""

    def __init__(
        self, number: int, table: str, *, entry: str, login: Login, clock: Clock, write_timeout_s: float
    ) -> None:
        self._write_timeout_s = write_timeout_s
        self._number = number
        self._entry = entry
        self._login = login
        self._clock = clock
        self._session: Session | None = None
        self._sql = (
            f"INSERT INTO {table} (writer, seq) VALUES ($1, $2) "  # noqa: S608 - our own name
            "RETURNING current_setting('cluster_name'), "
            "('x' || substring(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int"
        )

    def request(self, seq: int) -> tuple[str, int]:
        """Writes a row. A commit that no standby has is no acknowledgement, though the server says OK."""
        session = self._connected()
        try:
            within = Deadline(self._clock, self._write_timeout_s)
            rows = session.query(self._sql, str(self._number), str(seq), within=within)
        except SessionFailed:
            self.close()
            raise
        if _LOCAL_COMMIT in session.warnings:
            raise SessionFailed(OutcomeKind.ERROR, "committed locally only", _LOCAL_COMMIT)
        node, timeline = rows[0]
        return node or "", int(timeline or 0)

    def close(self) -> None:
        """Idempotent."""
        if self._session is not None:
            self._session.close()
        self._session = None

    def _connected(self) -> Session:
        if self._session is None:
            within = Deadline(self._clock, CONNECT_TIMEOUT_S)
            self._session = Session(
                self._entry, self._login, within=within, statement_timeout_s=SETTLE_TIMEOUT_S
            )
        return self._session
