"""SQL on a PostgreSQL node in the role of agents; every wait ends, also on a frozen server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from ha_tasks.adapters.clock import SystemClock
from ha_tasks.adapters.deadline import Deadline
from ha_tasks.errors import ServiceUnreachable
from ha_tasks.model.probe import OutcomeKind

if TYPE_CHECKING:
    from ha_tasks.adapters.postgres_session import Session

Row: TypeAlias = tuple[str | None, ...]

_STATEMENT_S = 2.0
"""The server's own limit for a statement in a session that is held."""


class Sql:
    """A new session for each question: an old one says nothing about whether new ones are to be had.

    A command that asks ten questions in a row may hold one session, see ``held``: a session costs a fork
    and two proofs of the password, some 7 ms, and writes wait meanwhile.
    Raises ServiceUnreachable when the server does not answer in time or refuses.
    """

    def __init__(self, address: str, *, user: str, password: str) -> None:
        self._address = address
        self._user = user
        self._password = password
        self._mine = threading.local()

    def __repr__(self) -> str:
        return f"Sql({self._address!r})"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Until the end the questions of this thread go through one session; one that broke is made anew."""
        self._mine.holds, self._mine.session = True, None
        try:
            yield
        finally:
            self._mine.holds = False
            self._drop()

    def rows(
        self, sql: str, *parameters: str, timeout_s: float = _STATEMENT_S, anew: bool = False
    ) -> list[Row]:
        """All rows, values in PostgreSQL's text form. ``timeout_s`` is for connecting and asking together.

        ``anew``: in a session that begins now, also while one is held.
        """
        within = Deadline(SystemClock(), timeout_s)
        if anew or not getattr(self._mine, "holds", False):
            with self._session(within, timeout_s) as session:
                return session.query(sql, *parameters, within=within)
        if self._mine.session is None:
            self._mine.session = self._session(within, _STATEMENT_S)
        held: Session = self._mine.session
        try:
            return held.query(sql, *parameters, within=within)
        except ServiceUnreachable:
            self._drop()
            raise

    def row(self, sql: str, *parameters: str, timeout_s: float = _STATEMENT_S, anew: bool = False) -> Row:
        """The first row."""
        return self.rows(sql, *parameters, timeout_s=timeout_s, anew=anew)[0]

    def value(self, sql: str, *parameters: str, timeout_s: float = _STATEMENT_S) -> str | None:
        """The first value of the first row."""
        return self.row(sql, *parameters, timeout_s=timeout_s)[0]

    def _session(self, within: Deadline, statement_timeout_s: float) -> Session:
        # Imported here, because libpq takes longer to load than the agent may take to listen.
        from ha_tasks.adapters.postgres_session import Login, Session

        login = Login(user=self._user, database="postgres", password=self._password)
        return Session(self._address, login, within=within, statement_timeout_s=statement_timeout_s)

    def _drop(self) -> None:
        if self._mine.session is not None:
            self._mine.session.close()
        self._mine.session = None


def is_answer(error: ServiceUnreachable) -> bool:
    """True when the server itself said no (too many clients, starting up): it takes sessions."""
    from ha_tasks.adapters.postgres_session import SessionFailed

    return isinstance(error, SessionFailed) and error.kind is OutcomeKind.ERROR


def warm_up() -> None:
    """Loads libpq; done aside, so that the first status need not wait for it."""
    import ha_tasks.adapters.postgres_session  # noqa: F401
