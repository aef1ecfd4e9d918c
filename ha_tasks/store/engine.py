"""Opening the store's database, and the transactions in which every verb runs."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, TimeoutError
from sqlalchemy.pool import ConnectionPoolEntry

from ha_tasks.errors import HaTasksError, StoreUnreachable, UsageError

BUSY_TIMEOUT_S = 5.0
"""How long SQLite waits for another writer, PostgreSQL for a lock or a statement."""
CONNECT_TIMEOUT_S = 2
"""libpq takes no less."""

_READ_ONLY_TRANSACTION = "25006"
"""PostgreSQL says it where the store's primary has become a standby."""
_NOT_MIGRATED = ("42P01", "42703")
"""PostgreSQL: undefined table, undefined column."""


def open_engine(url: str | URL, *, foreign_keys: bool = True) -> Engine:
    """An engine for SQLite (a file) or PostgreSQL (psycopg). Connects to nothing yet.

    Its connections must not cross a fork; ``Database`` sees to that. Raises UsageError for any other
    database, and for SQLite in memory, which no second process could see.
    """
    made = make_url(url)
    match made.get_backend_name():
        case "sqlite" if made.database and ":memory:" not in made.database:
            return _open_sqlite(made, foreign_keys=foreign_keys)
        case "postgresql":
            return _open_postgresql(made)
    raise UsageError(f"the store cannot be {shown(made)}: give a SQLite file or PostgreSQL")


def shown(url: URL) -> str:
    """The URL as it may be shown: without its password."""
    return url.render_as_string(hide_password=True)


def _open_sqlite(url: URL, *, foreign_keys: bool) -> Engine:
    """WAL, so that readers and the one writer do not wait for each other; FULL, so that a commit stays.

    Each writing transaction takes the write lock when it begins (BEGIN IMMEDIATE): a transaction that
    reads first and locks later fails at once, without waiting, when another wrote in between.
    That BEGIN is ours and not the driver's is what SQLAlchemy's page on SQLite's transactions advises.
    """
    engine = create_engine(
        url,
        connect_args=_unless_given(url, timeout=BUSY_TIMEOUT_S),
        pool_timeout=BUSY_TIMEOUT_S,
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        _use_wal(cursor)
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute(f"PRAGMA foreign_keys = {foreign_keys:d}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", True)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _use_wal(cursor: DBAPICursor) -> None:
    """Changing to WAL is the one lock that SQLite does not wait for: so it is asked for until it is had.

    Only those who open a new file at the same moment meet here (2 of 240 failed without it).
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return


def _open_postgresql(url: URL) -> Engine:
    """No call waits longer than its deadline, not even for a server that has vanished."""
    limit_ms = int(BUSY_TIMEOUT_S * 1000)
    return create_engine(
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
        pool_pre_ping=True,
        pool_timeout=BUSY_TIMEOUT_S,
        hide_parameters=True,
    )


def _unless_given(url: URL, **defaults: str | float) -> dict[str, str | float]:
    """The driver's settings that the URL's query does not give itself."""
    return {name: value for name, value in defaults.items() if name not in url.query}


class Database:
    """Transactions on one store. Threads may share it; a forked child gets connections of its own.

    A store that cannot be reached, or stays locked, is StoreUnreachable; one that was not migrated is
    a UsageError.
    """

    def __init__(self, url: str | URL, *, foreign_keys: bool = True) -> None:
        self._url = make_url(url)
        self._foreign_keys = foreign_keys
        self._inherited: list[Engine] = []
        self._open()

    def _open(self) -> None:
        self._pid = os.getpid()
        self._engine = open_engine(self._url, foreign_keys=self._foreign_keys)
        reads = self._engine.execution_options(writes=False)
        if self._engine.dialect.name == "postgresql":
            reads = reads.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._reader = reads

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
        return UsageError(f"the store {url} is not migrated: {text}; mend it with: ha-tasks migrate")
    passing = isinstance(error, (OperationalError, InterfaceError, TimeoutError))
    if passing or state == _READ_ONLY_TRANSACTION:
        return StoreUnreachable(f"the store {url} did not answer: {text}")
    return None
