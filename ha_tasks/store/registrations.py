"""Registrations in SQL. See ports/registrations.py for the contract."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from ha_tasks.errors import Refused, StaleFence
from ha_tasks.model.platform import Role
from ha_tasks.model.registration import NewRegistration, Registration, forgotten, is_last
from ha_tasks.store.control_tables import registration as table
from ha_tasks.store.engine import Database
from ha_tasks.store.rows import next_value, put

LEASE = "registration_lease"


class SqlRegistrations:
    """Implements ``Registrations``.

    Whoever takes the next lease holds the sequence's row until the transaction ends: so of two that remove
    the last two of a service the second sees what the first has left.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, new: NewRegistration, now: datetime) -> Registration:
        """See the port."""
        with self._database.writing() as connection:
            values = {
                "service": new.service,
                "name": new.name,
                "address": new.address,
                "role": str(new.role),
                "metadata": dict(new.metadata),
                "lease": next_value(connection, LEASE),
                "ttl_s": new.ttl_s,
                "registered_at": now,
                "renewed_at": now,
            }
            put(connection, table, values)
            for old in forgotten(_all(connection), now):
                connection.execute(delete(table).where(_is(old.service, old.name)))
            return _get(connection, new.service, new.name)

    def renew(self, service: str, name: str, lease: int, now: datetime) -> Registration:
        """See the port."""
        mine = _is(service, name) & (table.c.lease == lease)
        with self._database.writing() as connection:
            connection.execute(update(table).where(mine & (table.c.renewed_at < now)).values(renewed_at=now))
            found = _get(connection, service, name)
            _must_be(found, lease)
            return found

    def remove(
        self, service: str, name: str, lease: int | None, now: datetime, *, staffed: bool = False
    ) -> bool:
        """See the port."""
        with self._database.writing() as connection:
            lease_of_nobody = next_value(connection, LEASE)
            known = _all(connection)
            found = next((r for r in known if (r.service, r.name) == (service, name)), None)
            if found is None or found.left:
                return False
            if lease is not None:
                _must_be(found, lease)
            if not staffed and is_last(found, known, now):
                raise Refused(f"{name} is the last registered instance of {service}; register another first")
            left = {"lease": lease_of_nobody, "ttl_s": 0.0, "renewed_at": now}
            connection.execute(update(table).where(_is(service, name)).values(**left))
            return True

    def all(self) -> tuple[Registration, ...]:
        """See the port."""
        with self._database.reading() as connection:
            return _all(connection)


def _must_be(found: Registration, lease: int) -> None:
    if found.lease != lease:
        happened = "has left" if found.left else f"was registered anew, lease {found.lease}"
        raise StaleFence(f"lease {lease} is over: {found.name} of {found.service} {happened}")


def _is(service: str, name: str) -> Any:  # noqa: ANN401 - SQLAlchemy's expression
    return (table.c.service == service) & (table.c.name == name)


def _get(connection: Connection, service: str, name: str) -> Registration:
    row = connection.execute(select(table).where(_is(service, name))).one_or_none()
    if row is None:
        raise KeyError(name)
    return _registration(row)


def _all(connection: Connection) -> tuple[Registration, ...]:
    rows = connection.execute(select(table).order_by(table.c.service, table.c.name))
    return tuple(_registration(row) for row in rows)


def _registration(row: Row[Any]) -> Registration:
    return Registration(
        service=row.service,
        name=row.name,
        address=row.address,
        role=Role(row.role),
        metadata=row.metadata,
        lease=row.lease,
        ttl_s=row.ttl_s,
        registered_at=row.registered_at,
        renewed_at=row.renewed_at,
    )
