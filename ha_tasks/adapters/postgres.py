"""PostgreSQL asked by SQL, each call over a session of its own with one deadline."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from ha_tasks.adapters.clock import SYSTEM_CLOCK
from ha_tasks.adapters.deadline import Deadline
from ha_tasks.adapters.postgres_reading import READING, SETTINGS, reading_of
from ha_tasks.adapters.postgres_session import Login, Passwords, Row, Session, SessionFailed, control_logins
from ha_tasks.errors import ActionFailed, PassingFailure, VerificationFailed
from ha_tasks.model.cluster import format_lsn
from ha_tasks.model.platform import Instance, Service
from ha_tasks.model.replication import NodeReading
from ha_tasks.model.switchover import Transaction
from ha_tasks.ports.clock import Clock

_CANARY_MISSING = "SELECT 1 WHERE to_regclass('ha.canary') IS NULL"
_CREATE_CANARY = (
    "CREATE SCHEMA IF NOT EXISTS ha",
    "CREATE TABLE IF NOT EXISTS ha.canary ("
    "service text NOT NULL, token text NOT NULL, written_at timestamptz NOT NULL DEFAULT now(), "
    "PRIMARY KEY (service, token))",
)
_EXISTS_ALREADY = frozenset({"23505", "42710", "42P06", "42P07"})
"""unique_violation (of a catalog), duplicate_object (the type of the table), _schema, _table."""
_WRITE_CANARY = (
    "INSERT INTO ha.canary (service, token) VALUES ($1, $2) "
    "ON CONFLICT (service, token) DO UPDATE SET written_at = now()"
)
_READ_CANARY = (
    "SELECT current_setting('cluster_name'), (SELECT token FROM ha.canary WHERE service = $1 AND token = $2)"
)
_FORGET_CANARIES = "DELETE FROM ha.canary WHERE service = $1 AND written_at < now() - interval '1 hour'"
_TRANSACTIONS = """
SELECT pid, usename, application_name, extract(epoch FROM clock_timestamp() - xact_start)
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
  AND clock_timestamp() - xact_start > $1::float8 * interval '1 s'
ORDER BY xact_start
"""


class SqlPostgresControl:
    """See ports/postgres.py. What the role of the inventory needs: ha_tasks/privileges/cluster-roles.sql
    and database-rights.sql; the canary's table is made here only where the role may create it.

    ServiceUnreachable covers a server that is starting, stopping, out of connections, or no primary;
    what only a person can mend (a missing right) is ActionFailed.
    """

    def __init__(
        self,
        *,
        password: Passwords,
        clock: Clock = SYSTEM_CLOCK,
        timeout_s: float = 2.0,
        checkpoint_timeout_s: float = 60.0,
        reading_timeout_s: float = 1.0,
    ) -> None:
        self._logins = control_logins(password)
        self._clock = clock
        self._timeout_s = timeout_s
        self._checkpoint_timeout_s = checkpoint_timeout_s
        self._reading_timeout_s = reading_timeout_s

    def flush_lsn(self, service: Service, node: Instance) -> int:
        """Bytes; reads only. On a node in recovery: ServiceUnreachable, it is no primary (yet)."""
        rows = self._ask(service, node, "SELECT pg_current_wal_flush_lsn() - '0/0'::pg_lsn")
        return int(rows[0][0] or 0)

    def flushed_past(self, service: Service, primary: Instance, lsn: int) -> frozenset[str]:
        """Reads only; a standby that only catches up counts as soon as it has flushed that far."""
        sql = "SELECT application_name FROM pg_stat_replication WHERE flush_lsn >= $1::pg_lsn"
        return _names(self._ask(service, primary, sql, format_lsn(lsn)))

    def streaming(self, service: Service, primary: Instance) -> frozenset[str]:
        """Reads only."""
        sql = "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'"
        return _names(self._ask(service, primary, sql))

    def receiving(self, service: Service, primary: Instance) -> frozenset[str]:
        """Reads only."""
        sql = "SELECT application_name FROM pg_stat_replication WHERE state IN ('streaming', 'catchup')"
        return _names(self._ask(service, primary, sql))

    def sync_setting(self, service: Service, primary: Instance) -> str:
        """Reads only."""
        rows = self._ask(service, primary, "SELECT current_setting('synchronous_standby_names')")
        return rows[0][0] or ""

    def checkpoint(self, service: Service, primary: Instance) -> None:
        """Idempotent; waits ``checkpoint_timeout_s`` at most."""
        self._ask(service, primary, "CHECKPOINT", timeout_s=self._checkpoint_timeout_s)

    def end_walsenders(self, service: Service, primary: Instance, names: Collection[str]) -> None:
        """Idempotent in effect: a WAL sender that is ended twice comes back twice.

        Returns when they are gone; PassingFailure when one is not in time: with its old settings it
        could still release a commit.
        """
        sql = (
            "SELECT pid, pg_terminate_backend(pid, $2::bigint) FROM pg_stat_replication "
            "WHERE lower(application_name) = ANY(string_to_array(lower($1), ','))"
        )
        limit_ms = str(int(self._timeout_s * 1000))
        rows = self._ask(service, primary, sql, ",".join(names), limit_ms)
        left = [str(pid) for pid, ended in rows if ended != "t"]
        if left:
            raise PassingFailure(f"WAL senders of {primary.name} do not end: {', '.join(left)}")

    def transactions(
        self, service: Service, primary: Instance, older_than_s: float
    ) -> tuple[Transaction, ...]:
        """Reads only; without the one that asks."""
        rows = self._ask(service, primary, _TRANSACTIONS, str(older_than_s))
        return tuple(
            Transaction(
                pid=int(pid or 0), user=user or "", application=application or "", age_s=float(age or 0.0)
            )
            for pid, user, application, age in rows
        )

    def system_identifier(self, service: Service, node: Instance) -> str:
        """Reads only."""
        rows = self._ask(service, node, "SELECT system_identifier FROM pg_control_system()")
        return rows[0][0] or ""

    def reading(self, service: Service, node: Instance) -> NodeReading:
        """Reads only. Without pg_read_all_stats it is incomplete, and ``lacking`` says so."""
        rows = self._ask(service, node, READING, ",".join(SETTINGS), timeout_s=self._reading_timeout_s)
        return reading_of(node.name, rows[0][0] or "")

    def write_canary(self, service: Service, entry: str, token: str, timeout_s: float) -> str:
        """Idempotent; raises VerificationFailed when the row is not found again. Old rows are forgotten.

        The statements go over one session and so, through a balancer, to one node.
        """
        within = Deadline(self._clock, timeout_s)
        with self._session(entry, self._logins(service), within, timeout_s) as session:
            if session.query(_CANARY_MISSING, within=within):
                _create_canary(session, within)
            session.query(_WRITE_CANARY, service.name, token, within=within)
            node, found = session.query(_READ_CANARY, service.name, token, within=within)[0]
            session.query(_FORGET_CANARIES, service.name, within=within)
        if found is None:
            raise VerificationFailed(f"{service.name}: {entry} took a row and did not give it back")
        return node or ""

    def _ask(
        self, service: Service, node: Instance, sql: str, *parameters: str, timeout_s: float | None = None
    ) -> list[Row]:
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        within = Deadline(self._clock, limit_s)
        with self._session(node.address, self._logins(service), within, limit_s) as session:
            return session.query(sql, *parameters, within=within)

    @contextmanager
    def _session(self, address: str, login: Login, within: Deadline, limit_s: float) -> Iterator[Session]:
        try:
            with Session(address, login, within=within, statement_timeout_s=limit_s) as session:
                yield session
        except SessionFailed as failure:
            if failure.passing:
                raise
            raise ActionFailed(f"{address}: {failure.detail}") from failure


def _create_canary(session: Session, within: Deadline) -> None:
    for statement in _CREATE_CANARY:
        try:
            session.query(statement, within=within)
        except SessionFailed as failure:
            # IF NOT EXISTS does not hold between two sessions that create it at the same moment.
            if failure.sqlstate not in _EXISTS_ALREADY:
                raise


def _names(rows: list[Row]) -> frozenset[str]:
    return frozenset(name for (name,) in rows if name)
