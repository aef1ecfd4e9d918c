"""Maintenance windows in SQL. See ports/maintenance.py for the contract."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, or_, select, update

from ha_tasks.model.deeds import maintenance_added, maintenance_ended
from ha_tasks.model.maintenance import Weekly, Window
from ha_tasks.ports.maintenance import NewWindow
from ha_tasks.store.audit import record
from ha_tasks.store.control_tables import maintenance
from ha_tasks.store.engine import Database
from ha_tasks.store.rows import insert


class SqlMaintenanceBook:
    """Implements ``MaintenanceBook``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, new: NewWindow, now: datetime) -> Window:
        """See the port."""
        with self._database.writing() as connection:
            statement = insert(connection, maintenance).values(
                scope=new.scope,
                starts_at=new.starts_at,
                ends_at=new.ends_at,
                rule=None if new.rule is None else new.rule.to_json(),
                actor=new.actor,
                reason=new.reason,
                created_at=now,
            )
            window = _window_of(connection.execute(statement.returning(maintenance)).one())
            record(connection, now, maintenance_added(window))
            return window

    def standing(self, now: datetime) -> tuple[Window, ...]:
        """See the port."""
        ahead = or_(maintenance.c.ends_at.is_(None), maintenance.c.ends_at > now)
        query = select(maintenance).where(maintenance.c.ended_at.is_(None), ahead)
        with self._database.reading() as connection:
            return tuple(_window_of(row) for row in connection.execute(query.order_by(maintenance.c.id)))

    def end(self, window: int, now: datetime, actor: str) -> Window:
        """See the port."""
        open_one = (maintenance.c.id == window) & maintenance.c.ended_at.is_(None)
        ended = update(maintenance).where(open_one).values(ended_at=now, ended_by=actor)
        with self._database.writing() as connection:
            changed = connection.execute(ended).rowcount == 1
            found = _get(connection, window)
            if changed:
                record(connection, now, maintenance_ended(found, actor))
            return found


def _get(connection: Connection, window: int) -> Window:
    row = connection.execute(select(maintenance).where(maintenance.c.id == window)).one_or_none()
    if row is None:
        raise KeyError(window)
    return _window_of(row)


def _window_of(row: Row[Any]) -> Window:
    return Window(
        id=row.id,
        scope=row.scope,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        rule=None if row.rule is None else Weekly.from_json(row.rule),
        actor=row.actor,
        reason=row.reason,
        created_at=row.created_at,
        ended_at=row.ended_at,
        ended_by=row.ended_by,
    )
