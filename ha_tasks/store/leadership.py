"""Leaderships in SQL. See ports/leadership.py for the contract."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Connection, select, update

from ha_tasks.model.leadership import NOBODY, Lease
from ha_tasks.store.control_tables import leadership as leaderships
from ha_tasks.store.engine import Database
from ha_tasks.store.rows import insert


class SqlLeadership:
    """Implements ``Leadership``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def look(self, name: str) -> Lease | None:
        """See the port."""
        with self._database.reading() as connection:
            row = connection.execute(select(leaderships).where(leaderships.c.name == name)).one_or_none()
        if row is None:
            return None
        return Lease(holder=row.holder, fence=row.fence, lease_until=row.lease_until)

    def take(self, name: str, seen: Lease | None, holder: str, until: datetime) -> Lease | None:
        """See the port. The fence counts the changes of hands."""
        lease = Lease(holder=holder, fence=1 if seen is None else seen.fence + 1, lease_until=until)
        values = asdict(lease)
        with self._database.writing() as connection:
            if seen is None:
                made = insert(connection, leaderships).values(name=name, **values).on_conflict_do_nothing()
                taken = connection.execute(made.returning(leaderships.c.fence)).scalar() is not None
            else:
                unchanged = (
                    (leaderships.c.name == name)
                    & (leaderships.c.holder == seen.holder)
                    & (leaderships.c.fence == seen.fence)
                    & (leaderships.c.lease_until == seen.lease_until)
                )
                moved = connection.execute(update(leaderships).where(unchanged).values(values))
                taken = moved.rowcount == 1
        return lease if taken else None

    def renew(self, name: str, fence: int, until: datetime) -> bool:
        """See the port."""
        with self._database.writing() as connection:
            return still_leads(connection, name, fence, until)

    def release(self, name: str, fence: int, now: datetime) -> None:
        """See the port."""
        mine = (leaderships.c.name == name) & (leaderships.c.fence == fence)
        given_back = update(leaderships).where(mine).values(holder=NOBODY, lease_until=now)
        with self._database.writing() as connection:
            connection.execute(given_back)


def still_leads(connection: Connection, name: str, fence: int, until: datetime) -> bool:
    """Renews the lease and locks its row until the transaction ends; False when another leads."""
    mine = (leaderships.c.name == name) & (leaderships.c.fence == fence) & (leaderships.c.holder != NOBODY)
    return connection.execute(update(leaderships).where(mine).values(lease_until=until)).rowcount == 1
