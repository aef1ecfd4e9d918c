"""How far each destination has been told, in SQL. See ports/events.py for the contract."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, select, update

from ha_tasks.ports.events import Cursor
from ha_tasks.store.control_tables import event_cursor as cursors
from ha_tasks.store.engine import Database
from ha_tasks.store.rows import insert


class SqlEventCursors:
    """Implements ``EventCursors``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, name: str, seq: int, now: datetime) -> Cursor:
        """See the port. Idempotent."""
        row = {"name": name, "seq": seq, "attempts": 0, "due_at": now, "error": "", "changed_at": now}
        with self._database.writing() as connection:
            connection.execute(insert(connection, cursors).values(**row).on_conflict_do_nothing())
            found = connection.execute(select(cursors).where(cursors.c.name == name)).one()
        return _cursor_of(found)

    def claim(self, name: str, now: datetime, hold_s: float) -> Cursor | None:
        """See the port. One statement: of two that claim at once, one gets it."""
        due = update(cursors).where(cursors.c.name == name, cursors.c.due_at <= now)
        held = due.values(due_at=now + timedelta(seconds=hold_s)).returning(cursors)
        with self._database.writing() as connection:
            row = connection.execute(held).one_or_none()
        return None if row is None else _cursor_of(row)

    def move(
        self, held: Cursor, *, seq: int, attempts: int, due_at: datetime, error: str, now: datetime
    ) -> bool:
        """See the port. Compare-and-set on what the claim left."""
        mine = update(cursors).where(
            cursors.c.name == held.name, cursors.c.seq == held.seq, cursors.c.due_at == held.due_at
        )
        moved = mine.values(seq=seq, attempts=attempts, due_at=due_at, error=error, changed_at=now)
        with self._database.writing() as connection:
            return connection.execute(moved.returning(cursors.c.name)).one_or_none() is not None

    def all(self) -> tuple[Cursor, ...]:
        """See the port."""
        with self._database.reading() as connection:
            rows = connection.execute(select(cursors).order_by(cursors.c.name)).all()
        return tuple(_cursor_of(row) for row in rows)


def _cursor_of(row: Row[Any]) -> Cursor:
    return Cursor(
        name=row.name,
        seq=row.seq,
        attempts=row.attempts,
        due_at=row.due_at,
        error=row.error,
        changed_at=row.changed_at,
    )
