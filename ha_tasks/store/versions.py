"""Versions of what services serve from in SQL. See ports/versions.py for the contract."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select, update

from ha_tasks.errors import RevisionConflict
from ha_tasks.model.deeds import version_judged, version_recorded
from ha_tasks.model.versions import Judgement, Version
from ha_tasks.ports.repositories import Warrant
from ha_tasks.store.audit import record
from ha_tasks.store.control_tables import service_version as versions
from ha_tasks.store.engine import Database
from ha_tasks.store.rows import insert
from ha_tasks.store.runs import must_hold


class SqlVersions:
    """Implements ``Versions``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, service: str) -> tuple[Version, ...]:
        """See the port."""
        newest_first = select(versions).where(versions.c.service == service).order_by(versions.c.no.desc())
        with self._database.reading() as connection:
            return tuple(_version_of(row) for row in connection.execute(newest_first))

    def get(self, service: str, no: int) -> Version:
        """See the port."""
        with self._database.reading() as connection:
            return _get(connection, service, no)

    def record(
        self,
        service: str,
        files: Mapping[str, str],
        *,
        actor: str,
        reason: str,
        now: datetime,
    ) -> Version:
        """See the port. The primary key decides between those who record at the same moment."""
        with self._database.writing() as connection:
            newest = _newest(connection, service)
            if newest is not None and dict(newest.files) == dict(files):
                return newest
            row = insert(connection, versions).values(
                service=service,
                no=(newest.no if newest else 0) + 1,
                files=dict(files),
                actor=actor,
                reason=reason,
                recorded_at=now,
                judgement=str(Judgement.RECORDED),
                judged_at=None,
                why="",
            )
            made = connection.execute(row.on_conflict_do_nothing().returning(versions)).one_or_none()
            if made is not None:
                recorded = _version_of(made)
                record(connection, now, version_recorded(recorded))
                return recorded
        theirs = self.of(service)[0]
        if dict(theirs.files) == dict(files):
            return theirs
        raise RevisionConflict(
            f"version {theirs.no} of {service} was recorded meanwhile; look: ha-tasks versions {service}"
        )

    def judge(
        self,
        service: str,
        no: int,
        judgement: Judgement,
        why: str,
        now: datetime,
        *,
        actor: str,
        under: Warrant | None = None,
    ) -> Version:
        """See the port."""
        with self._database.writing() as connection:
            if under is not None:
                must_hold(connection, under.run, under.fence)
            before = _get(connection, service, no)
            if (before.judgement, before.why) == (judgement, why):
                return before
            connection.execute(
                update(versions)
                .where(versions.c.service == service, versions.c.no == no)
                .values(judgement=str(judgement), judged_at=now, why=why)
            )
            after = _get(connection, service, no)
            record(connection, now, version_judged(before, after, actor))
            return after


def _newest(connection: Connection, service: str) -> Version | None:
    query = select(versions).where(versions.c.service == service).order_by(versions.c.no.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else _version_of(row)


def _get(connection: Connection, service: str, no: int) -> Version:
    query = select(versions).where(versions.c.service == service, versions.c.no == no)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise KeyError(no)
    return _version_of(row)


def _version_of(row: Row[Any]) -> Version:
    return Version(
        service=row.service,
        no=row.no,
        files=row.files,
        actor=row.actor,
        reason=row.reason,
        recorded_at=row.recorded_at,
        judgement=Judgement(row.judgement),
        judged_at=row.judged_at,
        why=row.why,
    )
