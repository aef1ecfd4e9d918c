"""pgbouncer's admin console: PAUSE, RESUME, RECONNECT. The port is ports/pooler.py.

Each call has a session of its own on each console, with one deadline. PAUSE answers only once no transaction
is under way; leaving the session does not call it off, RESUME does.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from ha_tasks.adapters.clock import SYSTEM_CLOCK
from ha_tasks.adapters.deadline import Deadline
from ha_tasks.adapters.postgres_session import Login, Session, SessionFailed
from ha_tasks.errors import HaTasksError, PassingFailure, PoolerError, PoolerUnreachable
from ha_tasks.model.platform import PoolerSettings, Service
from ha_tasks.model.probe import OutcomeKind
from ha_tasks.ports.clock import Clock

_CONSOLE = "pgbouncer"
_NOT_PAUSED = "is not paused"
"""The complaint of a RESUME that has nothing to do; the console gives no code of its own."""
_REACHED_WITHIN_S = 1.0


class PgbouncerControl:
    """Implements ports.pooler.PoolerControl for every service that has a pooler."""

    def __init__(
        self,
        *,
        password: Callable[[Service], str | None],
        clock: Clock = SYSTEM_CLOCK,
        timeout_s: float = 2.0,
    ) -> None:
        """``password``: of the console's user, asked for each session."""
        self._password = password
        self._clock = clock
        self._timeout_s = timeout_s

    def pause(self, service: Service, within_s: float) -> None:
        """See ports.pooler. Idempotent; on every console at the same moment."""
        pooler = service.pooler
        if pooler is None:
            return
        failed = self._each(pooler, lambda address: self._pause_one(service, pooler, address, within_s))
        if failed:
            with suppress(HaTasksError):  # what is told is why it was called off
                self.resume(service)
            raise failed[0]

    def resume(self, service: Service) -> None:
        """See ports.pooler. Idempotent. Every console is told, also when one does not answer."""
        pooler = service.pooler
        if pooler is not None:
            self._all(pooler, lambda address: self._resume_one(service, pooler, address))

    def reconnect(self, service: Service) -> None:
        """See ports.pooler. Idempotent."""
        pooler = service.pooler
        if pooler is not None:
            statement = f"RECONNECT {pooler.database}"
            self._all(pooler, lambda address: self._say(service, pooler, address, statement, self._timeout_s))

    def is_paused(self, service: Service) -> bool:
        """Reads only."""
        pooler = service.pooler
        return pooler is not None and any(self._holds(service, pooler, a) for a in pooler.addresses)

    def _pause_one(self, service: Service, pooler: PoolerSettings, address: str, within_s: float) -> None:
        self._say(service, pooler, address, f"PAUSE {pooler.database}", within_s)

    def _resume_one(self, service: Service, pooler: PoolerSettings, address: str) -> None:
        try:
            self._say(service, pooler, address, f"RESUME {pooler.database}", self._timeout_s)
        except PoolerError as error:
            if _NOT_PAUSED not in str(error):
                raise

    def _holds(self, service: Service, pooler: PoolerSettings, address: str) -> bool:
        rows = self._say(service, pooler, address, "SHOW DATABASES", self._timeout_s)
        return any(row["name"] == pooler.database and row["paused"] != "0" for row in rows)

    def _all(self, pooler: PoolerSettings, work: Callable[[str], object]) -> None:
        failed = self._each(pooler, work)
        if failed:
            raise failed[0]

    def _each(self, pooler: PoolerSettings, work: Callable[[str], object]) -> list[HaTasksError]:
        """What went wrong, console by console; all are asked side by side."""

        def tried(address: str) -> HaTasksError | None:
            try:
                work(address)
            except HaTasksError as error:
                return error
            return None

        with ThreadPoolExecutor(max_workers=len(pooler.addresses), thread_name_prefix="pooler") as pool:
            return [error for error in pool.map(tried, pooler.addresses) if error is not None]

    def _say(
        self, service: Service, pooler: PoolerSettings, address: str, statement: str, within_s: float
    ) -> list[dict[str, str | None]]:
        within = Deadline(self._clock, within_s)
        with self._session(service, pooler, address, min(within_s, _REACHED_WITHIN_S)) as session:
            try:
                rows = session.query(statement, within=within)
            except SessionFailed as failure:
                raise _refused(address, statement, within_s, failure) from failure
            return [dict(zip(session.columns, row, strict=True)) for row in rows]

    def _session(self, service: Service, pooler: PoolerSettings, address: str, within_s: float) -> Session:
        login = Login(user=pooler.user, database=_CONSOLE, password=lambda: self._password(service))
        within = Deadline(self._clock, within_s)
        try:
            return Session(address, login, within=within, statement_timeout_s=within_s, console=True)
        except SessionFailed as failure:
            kind = PoolerError if failure.kind is OutcomeKind.ERROR else PoolerUnreachable
            raise kind(f"pgbouncer {address}: {failure.detail}") from failure


def _refused(address: str, statement: str, within_s: float, failure: SessionFailed) -> HaTasksError:
    if failure.kind is OutcomeKind.ERROR:
        return PoolerError(f"pgbouncer {address}: {statement}: {failure.detail}")
    if statement.startswith("PAUSE"):
        late = f"still had a transaction under way after {within_s:g} s"
        return PassingFailure(f"pgbouncer {address} {late}; the pause was called off")
    return PoolerUnreachable(f"pgbouncer {address}: {statement}: {failure.detail}")
