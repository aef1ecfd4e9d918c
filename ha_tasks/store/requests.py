"""The book of requests in SQL. See ports/requests.py for the contract."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, null, select, update

from ha_tasks.model.plain import Json
from ha_tasks.ports.requests import KeptRequest, order_key
from ha_tasks.store.control_tables import recovery_request as requests
from ha_tasks.store.engine import Database
from ha_tasks.store.rows import insert
from ha_tasks.store.tables import run as runs


class SqlRequestBook:
    """Implements ``RequestBook``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def receive(
        self, *, key: str, sha256: str, body: Json, requested_by: str, now: datetime
    ) -> tuple[KeptRequest, bool]:
        """See the port. Idempotent: the primary key decides who was first."""
        row: dict[str, Any] = {
            "key": key,
            "sha256": sha256,
            "body": body,
            "requested_by": requested_by,
            "received_at": now,
            "answer": null(),
            "run": None,
        }
        with self._database.writing() as connection:
            statement = insert(connection, requests).values(**row).on_conflict_do_nothing()
            new = connection.execute(statement.returning(requests.c.key)).scalar_one_or_none() is not None
            return _kept(connection, key), new

    def answer(self, key: str, answer: Json, run: int | None) -> Json:
        """See the port. Idempotent."""
        first = update(requests).where(requests.c.key == key, requests.c.answer.is_(None))
        with self._database.writing() as connection:
            connection.execute(first.values(answer=answer, run=run))
            return _kept(connection, key).answer or {}

    def get(self, key: str) -> KeptRequest:
        """See the port."""
        with self._database.reading() as connection:
            return _kept(connection, key)


def _kept(connection: Connection, key: str) -> KeptRequest:
    started = select(runs.c.id).where(runs.c.idempotency_key == order_key(key)).scalar_subquery()
    query = select(requests, func.coalesce(requests.c.run, started).label("started"))
    row = connection.execute(query.where(requests.c.key == key)).one_or_none()
    if row is None:
        raise KeyError(key)
    return KeptRequest(
        key=row.key,
        sha256=row.sha256,
        body=row.body,
        requested_by=row.requested_by,
        received_at=row.received_at,
        answer=row.answer,
        run=row.started,
    )
