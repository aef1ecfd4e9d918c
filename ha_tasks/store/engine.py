"""Opening the store's database, and the transactions in which every verb runs."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import psycopg
from sqlalchemy import URL, Connection, Dialect, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.exc import DBAPIError, InterfaceError, InvalidatePoolError, OperationalError, TimeoutError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from ha_tasks.errors import HaTasksError, StoreUnreachable, UsageError
from ha_tasks.model.tls import mending
from ha_tasks.store.punctual import PunctualConnection

BUSY_TIMEOUT_S = 5.0
"""How long SQLite waits for another writer, PostgreSQL for a lock or a statement."""
GRACE_S = 1.0
"""How much longer the client waits for an answer than the server may take: a frozen server has no limits."""
PING_WITHIN_S = 1.0
"""How long a connection out of the pool may take to say that it lives."""
FRESH_S = 0.2
"""A connection that was used so shortly ago is not asked: no server restarts within that time."""
CONNECT_TIMEOUT_S = 2
"""For each address; libpq takes no less."""
MIGRATE = "ha-tasks migrate"

_READ_ONLY_TRANSACTION = "25006"
"""PostgreSQL says it where the store's primary has become a standby."""
_NOT_MIGRATED = ("42P01", "42703")
"""PostgreSQL: undefined table, undefined column."""
_DAMAGED = "XX"
"""PostgreSQL: the class of internal errors, damaged data and indexes among them."""
_DAMAGED_FILE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def open_engine(
    url: str | URL,
    *,
    foreign_keys: bool = True,
    limit_s: float = BUSY_TIMEOUT_S,
    create: bool = False,
) -> Engine:
    """An engine for SQLite (a file) or PostgreSQL (psycopg). Connects to nothing yet.

    ``limit_s``: the longest wait for another writer, a lock or a statement. ``create``: a SQLite file that
    is not there is made; otherwise it is a store that cannot be reached, never a new and empty one.
    Its connections must not cross a fork; ``Database`` sees to that. Raises UsageError for any other
    database, and for SQLite in memory, which no second process could see.
    """
    made = make_url(url)
    match made.get_backend_name():
        case "sqlite" if made.database and ":memory:" not in made.database:
            return _open_sqlite(made, foreign_keys=foreign_keys, limit_s=limit_s, create=create)
        case "postgresql":
            return _open_postgresql(made, limit_s)
    raise UsageError(f"the store cannot be {shown(made)}: give a SQLite file or PostgreSQL")


def shown(url: URL) -> str:
    """The URL as it may be shown: without its password, and without a query, which may bear one, too."""
    return url.set(query={}).render_as_string(hide_password=True)


def _open_sqlite(url: URL, *, foreign_keys: bool, limit_s: float, create: bool) -> Engine:
    """WAL, so that readers and the one writer do not wait for each other; FULL, so that a commit stays.

    Each writing transaction takes the write lock when it begins (BEGIN IMMEDIATE): a transaction that
    reads first and locks later fails at once, without waiting, when another wrote in between.
    That BEGIN is ours and not the driver's is what SQLAlchemy's page on SQLite's transactions advises.
    """
    engine = create_engine(
        url,
        connect_args=_unless_given(url, timeout=limit_s),
        pool_timeout=limit_s,
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        _use_wal(cursor, limit_s)
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute(f"PRAGMA foreign_keys = {foreign_keys:d}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", True)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    _stay_with_the_file(engine, url.database or "", create=create)
    return engine


def _stay_with_the_file(engine: Engine, path: str, *, create: bool) -> None:
    """A connection to a file that was deleted or exchanged would go on with what nobody else sees."""

    @event.listens_for(engine, "do_connect")
    def must_exist(*_: object) -> None:
        if not create and _file_at(path) is None:
            raise sqlite3.OperationalError(f"its file is gone; put it back, or make it anew with: {MIGRATE}")

    @event.listens_for(engine, "connect")
    def remember(_: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        record.info["file"] = _file_at(path)

    @event.listens_for(engine, "checkout")
    def compare(_: DBAPIConnection, record: ConnectionPoolEntry, __: PoolProxiedConnection) -> None:
        if record.info["file"] != _file_at(path):
            raise InvalidatePoolError(f"{path} is another file now")


def _file_at(path: str) -> tuple[int, int] | None:
    """(device, inode); None when there is no file."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _use_wal(cursor: DBAPICursor, limit_s: float) -> None:
    """Changing to WAL is the one lock that SQLite does not wait for: so it is asked for until it is had.

    Only those who open a new file at the same moment meet here (2 of 240 failed without it).
    """
    deadline = time.monotonic() + limit_s
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return


def _open_postgresql(url: URL, limit_s: float) -> Engine:
    """No call waits longer than its deadline, not even for a server that has vanished or is frozen.

    The server ends what takes longer than ``limit_s``; a server that says nothing is given GRACE_S more.
    """
    limit_ms = int(limit_s * 1000)
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args=_unless_given(
            url,
            connect_timeout=CONNECT_TIMEOUT_S,
            tcp_user_timeout=limit_ms,
            application_name="ha_tasks",
            options=(
                f"-c statement_timeout={limit_ms} -c lock_timeout={limit_ms}"
                f" -c idle_in_transaction_session_timeout={2 * limit_ms}"
            ),
        ),
        pool_timeout=limit_s,
        hide_parameters=True,
    )
    _be_punctual(engine, limit_s + GRACE_S)
    return engine


def _be_punctual(engine: Engine, patience_s: float) -> None:
    """Every connection has a deadline for each answer, and is asked first whether it still lives."""

    @event.listens_for(engine, "do_connect")
    def connect(
        _: Dialect, __: ConnectionPoolEntry, arguments: list[Any], settings: dict[str, Any]
    ) -> DBAPIConnection:
        made = PunctualConnection.connect(*arguments, **settings)
        made.patience_s = patience_s
        return cast("DBAPIConnection", made)

    @event.listens_for(engine, "connect")
    def is_new(_: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        record.info["new"] = True

    @event.listens_for(engine, "checkin")
    def was_used(_: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        record.info["used_s"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def ask(connection: DBAPIConnection, record: ConnectionPoolEntry, _: PoolProxiedConnection) -> None:
        if record.info.pop("new", False) or time.monotonic() - record.info.get("used_s", 0.0) < FRESH_S:
            return
        punctual = cast("PunctualConnection", connection)
        punctual.patience_s = PING_WITHIN_S
        try:
            engine.dialect.do_ping(connection)
        except psycopg.Error as error:
            raise InvalidatePoolError(str(error)) from error
        finally:
            punctual.patience_s = patience_s


def _unless_given(url: URL, **defaults: str | float) -> dict[str, str | float]:
    """The driver's settings that the URL's query does not give itself."""
    return {name: value for name, value in defaults.items() if name not in url.query}


class Database:
    """Transactions on one store. Threads may share it; a forked child gets connections of its own.

    A store that cannot be reached, or stays locked, is StoreUnreachable; one that was not migrated is
    a UsageError.
    """

    def __init__(
        self,
        url: str | URL,
        *,
        foreign_keys: bool = True,
        limit_s: float = BUSY_TIMEOUT_S,
        create: bool = False,
    ) -> None:
        self._url = make_url(url)
        self._settings = {"foreign_keys": foreign_keys, "create": create}
        self._limit_s = limit_s
        self._inherited: list[Engine] = []
        self._open()

    def _open(self) -> None:
        self._pid = os.getpid()
        self._engine = open_engine(self._url, limit_s=self._limit_s, **self._settings)
        reads = self._engine.execution_options(writes=False)
        if self._engine.dialect.name == "postgresql":
            reads = reads.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._reader = reads
        # On PostgreSQL a single statement is a transaction by itself, without asking to begin and to end it.
        self._single: Engine | None = None
        if self._engine.dialect.name == "postgresql":
            self._single = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    def _own(self) -> None:
        """In a forked child the parent's engine is laid aside, neither used nor closed."""
        if self._pid != os.getpid():
            self._inherited.append(self._engine)
            self._open()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction that may write; committed when the block ends without an error."""
        self._own()
        with self._answering(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One transaction that sees one moment of the store and writes nothing."""
        self._own()
        with self._answering(), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def glancing(self) -> Iterator[Connection]:
        """For one statement that writes nothing: cheaper than ``reading``."""
        self._own()
        with self._answering(), (self._single or self._reader).begin() as connection:
            yield connection

    @contextmanager
    def jotting(self) -> Iterator[Connection]:
        """For one statement that writes: cheaper than ``writing``, and as lasting."""
        self._own()
        with self._answering(), (self._single or self._engine).begin() as connection:
            yield connection

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, TimeoutError) as error:
            translated = _translated(error, shown(self._url))
            if translated is None:
                raise
            raise translated from error

    def dispose(self) -> None:
        """Closes the connections that are idle; the next transaction opens new ones."""
        self._own()
        self._engine.dispose()


def _translated(error: DBAPIError | TimeoutError, url: str) -> HaTasksError | None:
    """The error in our words; None: it is a mistake of ours, not the store's state."""
    cause = getattr(error, "orig", None) or error
    state = getattr(cause, "sqlstate", None)
    text = str(cause).strip().partition("\n")[0]
    if state in _NOT_MIGRATED or (isinstance(cause, sqlite3.Error) and text.startswith("no such")):
        return UsageError(f"the store {url} is not migrated: {text}; mend it with: {MIGRATE}")
    passing = isinstance(error, (OperationalError, InterfaceError, TimeoutError))
    if passing or state == _READ_ONLY_TRANSACTION:
        remedy = mending(str(cause), "store")
        return StoreUnreachable(f"the store {url} did not answer: {text}" + (f"; {remedy}" if remedy else ""))
    if str(state).startswith(_DAMAGED) or getattr(cause, "sqlite_errorcode", 0) & 0xFF in _DAMAGED_FILE:
        return StoreUnreachable(f"the store {url} is damaged: {text}; restore it from a backup")
    return None
