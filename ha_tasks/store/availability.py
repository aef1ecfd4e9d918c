"""Availability of services as intervals without gaps or overlaps; at most one per service is open."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, select, update

from ha_tasks.ports.ledger import Interval
from ha_tasks.store.rows import insert, next_value
from ha_tasks.store.tables import availability_interval as intervals


def change_state(connection: Connection, service: str, state: str, at: datetime) -> bool:
    """The service is in ``state`` from ``at`` on; True when that is a change.

    ``at`` may lie before the beginning of the interval that stands: a failure counts from its first
    failed probe, which is known only later. What was said about the time since ``at`` is replaced.
    """
    mine = intervals.c.service == service
    standing = select(intervals.c.state).where(mine, intervals.c.until.is_(None))
    if connection.execute(standing).scalar() == state:
        return False
    # Observers find the same change at the same time: the row of the sequence makes them take turns.
    next_value(connection, "availability_change")
    if connection.execute(standing).scalar() == state:
        return False
    connection.execute(delete(intervals).where(mine, intervals.c.since >= at))
    before = connection.execute(
        select(intervals.c.id, intervals.c.state).where(mine).order_by(intervals.c.since.desc()).limit(1)
    ).one_or_none()
    if before is not None:
        until = None if before.state == state else at
        connection.execute(update(intervals).where(intervals.c.id == before.id).values(until=until))
    if before is None or before.state != state:
        connection.execute(insert(connection, intervals).values(service=service, state=state, since=at))
    return True


def reaching_into(connection: Connection, since: datetime) -> tuple[Interval, ...]:
    """Intervals that have not ended by ``since``, by their beginning."""
    query = select(intervals).where(intervals.c.until.is_(None) | (intervals.c.until > since))
    rows = connection.execute(query.order_by(intervals.c.since, intervals.c.service))
    return tuple(
        Interval(service=row.service, state=row.state, since=row.since, until=row.until) for row in rows
    )
