"""Faults that hinder instead of killing, kept up by the process that drills, as long as it lives."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from ha_tasks.adapters.deadline import Deadline
from ha_tasks.adapters.postgres_session import Login, Session
from ha_tasks.embedded.home import Home
from ha_tasks.embedded.signals import Signals
from ha_tasks.errors import DeadlineExceeded, ServiceUnreachable
from ha_tasks.ports.clock import Clock

AWAKE_S = 0.1
ASLEEP_S = 0.9
"""A receiver may be asleep for this long: well below the time-outs of both ends of the stream."""
HELD_WITHIN_S = 10.0
STATEMENT_TIMEOUT_S = 60.0
"""Of the session with the long query, so that it outlives the drill's failover."""
LOCK_TIMEOUT_S = 5.0
ARRIVES_WITHIN_S = 0.3
"""By then some of the WAL of a steady load has come to a standby."""
TABLE = "ha_drill_held"


class Hindrances:
    """What this process keeps up until ``release``, or until it ends."""

    def __init__(self, home: Home, signals: Signals, clock: Clock, login: Callable[[], Login]) -> None:
        self._home = home
        self._signals = signals
        self._clock = clock
        self._login = login
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._sessions: list[Session] = []
        self._store: sqlite3.Connection | None = None
        self._cleared_through = ""

    def slow_stream(self, node: str) -> datetime:
        """The node's receiver sleeps for most of each second."""
        moment = self._clock.now()
        if not self._signals.receivers(node):
            raise ServiceUnreachable(f"no walreceiver runs on {node}")
        thread = threading.Thread(target=self._pulse, args=(node,), name=f"slow-{node}", daemon=True)
        self._threads.append(thread)
        thread.start()
        return moment

    def hold_replay(self, address: str, entry: str) -> datetime:
        """A snapshot on the standby at ``address``, and a VACUUM through ``entry`` that it conflicts with.

        Returns once replay stands still although WAL arrives. Raises DeadlineExceeded otherwise.
        """
        moment = self._clock.now()
        deadline = Deadline(self._clock, HELD_WITHIN_S)
        self._cleared_through = entry
        created = f"CREATE TABLE IF NOT EXISTS {TABLE} (n int)"
        self._at(entry, deadline, created, f"INSERT INTO {TABLE} VALUES (1)")  # noqa: S608 - our own name
        reader = Session(address, self._login(), within=deadline, statement_timeout_s=STATEMENT_TIMEOUT_S)
        self._sessions.append(reader)
        self._until(lambda: self._sees(reader, deadline), deadline, f"{address} has replayed the table")
        reader.query("BEGIN ISOLATION LEVEL REPEATABLE READ", within=deadline)
        reader.query(f"SELECT count(*) FROM {TABLE}", within=deadline)  # noqa: S608 - our own name
        self._until(
            lambda: self._stands_still(address, entry, deadline), deadline, f"replay on {address} is held up"
        )
        return moment

    def lock_store(self) -> datetime:
        """SQLite has one writer, and that is us now."""
        store = sqlite3.connect(self._home.database, timeout=LOCK_TIMEOUT_S, isolation_level=None)
        moment = self._clock.now()
        try:
            store.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            store.close()
            raise DeadlineExceeded(f"the store could not be locked: {error}") from error
        self._store = store
        return moment

    def release(self) -> None:
        """Ends them all. Idempotent."""
        if self._store is not None:
            self._store.close()
            self._store = None
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        self._ended.clear()
        for session in self._sessions:
            session.close()
        self._sessions.clear()
        if self._cleared_through:
            with suppress(ServiceUnreachable):  # a table that is left over harms nothing
                self._at(self._cleared_through, Deadline(self._clock, 2.0), f"DROP TABLE IF EXISTS {TABLE}")
                self._cleared_through = ""

    def _pulse(self, node: str) -> None:
        while not self._ended.is_set():
            wake = self._signals.freeze_receiver(node)
            try:
                self._ended.wait(ASLEEP_S)
            finally:
                wake()
            self._ended.wait(AWAKE_S)

    def _sees(self, reader: Session, deadline: Deadline) -> bool:
        found = reader.query(f"SELECT to_regclass('{TABLE}') IS NOT NULL", within=deadline)
        return found[0][0] == "t"

    def _stands_still(self, address: str, entry: str, deadline: Deadline) -> bool:
        """Rows die and are vacuumed away that the reader still sees; then WAL arrives and is not replayed."""
        self._at(entry, deadline, f"UPDATE {TABLE} SET n = n + 1", f"VACUUM {TABLE}")  # noqa: S608 - ours
        before = self._position(address, deadline)
        self._clock.pause(ARRIVES_WITHIN_S)
        after = self._position(address, deadline)
        return before[0] == after[0] and after[0] != after[1]

    def _position(self, address: str, deadline: Deadline) -> tuple[str | None, ...]:
        """What is replayed, and what has arrived."""
        with Session(address, self._login(), within=deadline, statement_timeout_s=2.0) as session:
            sql = "SELECT pg_last_wal_replay_lsn(), pg_last_wal_receive_lsn()"
            return session.query(sql, within=deadline)[0]

    def _at(self, address: str, deadline: Deadline, *statements: str) -> None:
        with Session(address, self._login(), within=deadline, statement_timeout_s=5.0) as session:
            for sql in statements:
                session.query(sql, within=deadline)

    def _until(self, condition: Callable[[], bool], deadline: Deadline, what: str) -> None:
        try:
            while not condition():
                deadline.left_s()
                self._clock.pause(0.05)
        except TimeoutError as error:
            raise DeadlineExceeded(f"{what}: not within {HELD_WITHIN_S:.0f} s") from error
