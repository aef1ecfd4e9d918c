"""Revisions of the inventory in SQL. See ports/revisions.py for the contract."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, case, func, select

from ha_tasks.errors import RevisionConflict
from ha_tasks.model.deeds import revision_applied
from ha_tasks.model.plain import Facts
from ha_tasks.model.revision import Change, Revision, sha256_of
from ha_tasks.store.audit import record
from ha_tasks.store.control_tables import inventory_revision as revisions
from ha_tasks.store.engine import Database
from ha_tasks.store.rows import insert


class SqlRevisions:
    """Implements ``Revisions``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def newest(self) -> Revision | None:
        """See the port."""
        with self._database.reading() as connection:
            return _newest(connection)

    def get(self, no: int) -> Revision:
        """See the port."""
        with self._database.reading() as connection:
            row = connection.execute(select(revisions).where(revisions.c.no == no)).one_or_none()
        if row is None:
            raise KeyError(no)
        return _revision_of(row)

    def place(self, sha256: str) -> tuple[int | None, int | None]:
        """See the port."""
        own = func.max(case((revisions.c.sha256 == sha256, revisions.c.no)))
        with self._database.reading() as connection:
            row = connection.execute(select(own, func.max(revisions.c.no))).one()
        return row[0], row[1]

    def apply(
        self,
        body: Facts,
        changes: Sequence[Change],
        *,
        actor: str,
        reason: str,
        now: datetime,
        onto: int | None,
    ) -> Revision:
        """See the port. The primary key decides between those who apply at the same moment."""
        values = {
            "no": (onto or 0) + 1,
            "sha256": sha256_of(body),
            "body": dict(body),
            "changes": {"changes": [change.to_json() for change in changes]},
            "actor": actor,
            "reason": reason,
            "applied_at": now,
        }
        with self._database.writing() as connection:
            before = _newest(connection)
            if before is not None and before.sha256 == values["sha256"]:
                return before
            made = None
            if (before.no if before else None) == onto:
                statement = insert(connection, revisions).values(**values).on_conflict_do_nothing()
                made = connection.execute(statement.returning(revisions)).one_or_none()
            if made is None:
                now_newest = before.no if before and before.no != onto else (onto or 0) + 1
                raise RevisionConflict(
                    f"revision {now_newest} was applied meanwhile; look anew: ha-tasks apply"
                )
            applied = _revision_of(made)
            record(connection, now, revision_applied(before, applied))
            return applied


def _newest(connection: Connection) -> Revision | None:
    row = connection.execute(select(revisions).order_by(revisions.c.no.desc()).limit(1)).one_or_none()
    return None if row is None else _revision_of(row)


def _revision_of(row: Row[Any]) -> Revision:
    return Revision(
        no=row.no,
        sha256=row.sha256,
        body=row.body,
        changes=tuple(Change(**change) for change in row.changes["changes"]),
        actor=row.actor,
        reason=row.reason,
        applied_at=row.applied_at,
    )
