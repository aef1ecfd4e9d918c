"""One PostgreSQL session on which every wait has a deadline, over libpq's non-blocking calls.

psycopg's own connections enforce at least 2 s for connecting, and on a frozen server (the kernel still
accepts and acknowledges for it) a query waits for ever: neither ``statement_timeout`` nor
``tcp_user_timeout`` ends that wait. So the waiting is done here, by ``poll`` and a deadline.
A session whose deadline passed is closed without a cancel request: a cancelled wait for a synchronous
standby would acknowledge a commit that no standby has.
"""

from __future__ import annotations

import errno
import os
import re
import select
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeAlias

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo
from psycopg.pq.abc import PGconn, PGresult

from ha_tasks.adapters.deadline import Deadline
from ha_tasks.adapters.wire import parse_address
from ha_tasks.errors import ServiceUnreachable, UsageError
from ha_tasks.model.platform import Service
from ha_tasks.model.probe import OutcomeKind

Row: TypeAlias = tuple[str | None, ...]
"""Values in PostgreSQL's text form."""

_ANSWER = re.compile(r":  |authentication|password|SSL|GSS")
"""What only a server says (``FATAL:  ...``, with two spaces), or a negotiation with one."""
_UNFIT_CLASSES = frozenset({"08", "40", "53", "55", "57"})
_READ_ONLY = "25006"


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Who connects to what. The password is a value, or a callable that is asked for each session."""

    user: str
    database: str
    password: str | Callable[[], str | None] | None = field(default=None, repr=False)


Logins: TypeAlias = Callable[[Service], Login]
"""Who logs in to a service."""
Passwords: TypeAlias = Callable[[Service], str | None]
"""The control plane's password for a service; asked for each session, so that it can be changed."""


def control_logins(password: Passwords) -> Logins:
    """The control plane's own logins, by the inventory. They raise UsageError for another kind of service."""

    def login(service: Service) -> Login:
        settings = service.postgres
        if settings is None:
            raise UsageError(f"{service.name} is no PostgreSQL service")
        return Login(user=settings.user, database=settings.database, password=lambda: password(service))

    return login


class SessionFailed(ServiceUnreachable):
    """``kind``: REFUSED and TIMEOUT (nobody answered), or ERROR (the server said no, and why).

    ``sqlstate`` is known for a statement's error. ``passing`` says that waiting or asking another
    server may help: out of a resource, shutting down, starting, or not the primary.
    """

    def __init__(self, kind: OutcomeKind, detail: str, sqlstate: str | None = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.sqlstate = sqlstate

    @property
    def passing(self) -> bool:
        """False for what only a person can mend: a missing right, a missing table, a wrong statement."""
        return self.sqlstate is None or self.sqlstate[:2] in _UNFIT_CLASSES or self.sqlstate == _READ_ONLY


class Session:
    """A session in autocommit. ``warnings`` are the SQLSTATEs of the notices of the last statement, and
    ``columns`` the names of its rows' values.
    """

    def __init__(
        self,
        address: str,
        login: Login,
        *,
        within: Deadline,
        statement_timeout_s: float,
        console: bool = False,
    ) -> None:
        """Connects, or raises SessionFailed, by the deadline; looking up a name is not bounded by it.

        ``console``: of pgbouncer, which knows plain statements only, and no settings.
        """
        self.warnings: list[str] = []
        self.columns: tuple[str, ...] = ()
        self._closed = False
        self._console = console
        self._connection = _connect(_conninfo(address, login, statement_timeout_s, console), within)
        self._connection.nonblocking = 1
        self._connection.notice_handler = self._notice

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent."""
        self._closed = True
        self._connection.finish()

    def query(self, sql: str, *parameters: str, within: Deadline) -> list[Row]:
        """Rows of one statement, once the server is ready for the next (so: committed).

        Raises SessionFailed; after anything but a plain error of the statement the session is closed.
        """
        if self._closed:
            raise SessionFailed(OutcomeKind.TIMEOUT, "the session is closed")
        self.warnings.clear()
        try:
            self._send(sql, parameters, within)
            results = self._results(within)
            self.columns = _columns(results)
            return _rows(results)
        except (TimeoutError, psycopg.Error) as error:
            self.close()
            raise SessionFailed(OutcomeKind.TIMEOUT, _first_line(str(error))) from error

    def _send(self, sql: str, parameters: tuple[str, ...], deadline: Deadline) -> None:
        if self._console:
            self._connection.send_query(sql.encode())
        else:
            self._connection.send_query_params(sql.encode(), [p.encode() for p in parameters])
        while self._connection.flush():
            if _wait(self._connection.socket, select.POLLIN | select.POLLOUT, deadline) & select.POLLIN:
                self._connection.consume_input()

    def _results(self, deadline: Deadline) -> list[PGresult]:
        """Until ReadyForQuery: a row that was sent before its commit is no acknowledgement."""
        results: list[PGresult] = []
        try:
            while (result := self._next_result(deadline)) is not None:
                results.append(result)
        except psycopg.Error:
            self.close()
            if not results or _succeeded(results[-1]):
                raise  # otherwise the server said why it was about to hang up
        return results

    def _next_result(self, deadline: Deadline) -> PGresult | None:
        while self._connection.is_busy():
            _wait(self._connection.socket, select.POLLIN, deadline)
            self._connection.consume_input()
        return self._connection.get_result()

    def _notice(self, result: PGresult) -> None:
        self.warnings.append((result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode())


def _conninfo(address: str, login: Login, statement_timeout_s: float, console: bool) -> str:
    host, port = parse_address(address)
    password = login.password() if callable(login.password) else login.password
    limit_ms = round(statement_timeout_s * 1000)
    return make_conninfo(
        host=host,
        port=port,
        user=login.user,
        dbname=login.database,
        password=password,
        application_name="ha_tasks",
        gssencmode="disable",
        tcp_user_timeout=limit_ms,
        options="" if console else f"-c statement_timeout={limit_ms}",
    )


def _connect(conninfo: str, deadline: Deadline) -> PGconn:
    """After PQconnectStart one waits as if PQconnectPoll had asked to write (libpq's manual)."""
    connection = pq.PGconn.connect_start(conninfo.encode())
    wanted = select.POLLOUT
    try:
        while connection.status != pq.ConnStatus.BAD:
            _wait(connection.socket, wanted, deadline)
            step = connection.connect_poll()
            if step == pq.PollingStatus.OK:
                return connection
            wanted = select.POLLIN if step == pq.PollingStatus.READING else select.POLLOUT
        raise _connect_failure(connection.get_error_message())
    except TimeoutError as error:
        connection.finish()
        raise SessionFailed(OutcomeKind.TIMEOUT, "no answer in time") from error
    except BaseException:
        connection.finish()
        raise


def _wait(descriptor: int, events: int, deadline: Deadline) -> int:
    """The events that came; raises TimeoutError after the deadline."""
    poller = select.poll()
    poller.register(descriptor, events)
    while True:
        happened = poller.poll(deadline.left_s() * 1000)
        if happened:
            return happened[0][1]


def _connect_failure(message: str) -> SessionFailed:
    """By libpq's text, for lack of a code. The system's own word for "refused" survives translations."""
    detail = _first_line(message)
    if _ANSWER.search(message):
        return SessionFailed(OutcomeKind.ERROR, detail)
    if os.strerror(errno.ECONNREFUSED) in message:
        return SessionFailed(OutcomeKind.REFUSED, detail)
    return SessionFailed(OutcomeKind.TIMEOUT, detail)


def _rows(results: list[PGresult]) -> list[Row]:
    if not results:
        raise SessionFailed(OutcomeKind.TIMEOUT, "the connection was lost")
    for result in results:
        if not _succeeded(result):
            raise _statement_failure(result)
    last = results[-1]
    return [
        tuple(_text(last.get_value(row, column)) for column in range(last.nfields))
        for row in range(last.ntuples)
    ]


def _columns(results: list[PGresult]) -> tuple[str, ...]:
    if not results:
        return ()
    names = (results[-1].fname(number) for number in range(results[-1].nfields))
    return tuple((name or b"").decode() for name in names)


def _succeeded(result: PGresult) -> bool:
    return result.status in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)


def _statement_failure(result: PGresult) -> SessionFailed:
    state = result.error_field(pq.DiagnosticField.SQLSTATE)
    if state is None:  # libpq's own words: the connection broke
        return SessionFailed(OutcomeKind.TIMEOUT, _first_line(result.get_error_message()))
    return SessionFailed(OutcomeKind.ERROR, _first_line(result.get_error_message()), state.decode())


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _first_line(message: str) -> str:
    """Libpq's first line, without the address that every reader knows already."""
    line = message.strip().splitlines()[0] if message.strip() else "no reason was given"
    return line.rpartition(" failed: ")[2][:200]
