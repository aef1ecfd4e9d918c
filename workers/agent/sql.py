"""SQL on a PostgreSQL node in the role of agents; every wait ends, also on a frozen server."""

from __future__ import annotations

from typing import TypeAlias

from ha_tasks.adapters.clock import SystemClock
from ha_tasks.adapters.deadline import Deadline
from ha_tasks.errors import ServiceUnreachable
from ha_tasks.model.probe import OutcomeKind

Row: TypeAlias = tuple[str | None, ...]


class Sql:
    """A new session for each question: an old one says nothing about whether new ones are to be had.

    Raises ServiceUnreachable when the server does not answer in time or refuses.
    """

    def __init__(self, address: str, *, user: str, password: str) -> None:
        self._address = address
        self._user = user
        self._password = password

    def __repr__(self) -> str:
        return f"Sql({self._address!r})"

    def rows(self, sql: str, *parameters: str, timeout_s: float = 2.0) -> list[Row]:
        """All rows, values in PostgreSQL's text form. ``timeout_s`` is for connecting and asking together."""
        # Imported here, because libpq takes longer to load than the agent may take to listen.
        from ha_tasks.adapters.postgres_session import Login, Session

        login = Login(user=self._user, database="postgres", password=self._password)
        within = Deadline(SystemClock(), timeout_s)
        with Session(self._address, login, within=within, statement_timeout_s=timeout_s) as session:
            return session.query(sql, *parameters, within=within)

    def row(self, sql: str, *parameters: str, timeout_s: float = 2.0) -> Row:
        """The first row."""
        return self.rows(sql, *parameters, timeout_s=timeout_s)[0]

    def value(self, sql: str, *parameters: str, timeout_s: float = 2.0) -> str | None:
        """The first value of the first row."""
        return self.row(sql, *parameters, timeout_s=timeout_s)[0]


def is_answer(error: ServiceUnreachable) -> bool:
    """True when the server itself said no (too many clients, starting up): it takes sessions."""
    from ha_tasks.adapters.postgres_session import SessionFailed

    return isinstance(error, SessionFailed) and error.kind is OutcomeKind.ERROR


def warm_up() -> None:
    """Loads libpq; done aside, so that the first status need not wait for it."""
    import ha_tasks.adapters.postgres_session  # noqa: F401
