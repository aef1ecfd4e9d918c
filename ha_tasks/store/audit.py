"""The audit chain in SQL. See ports/audit.py for the contract.

``record`` is the last statement of the transaction that it tells of: it locks the head's row, so that the
chain is one chain without gaps, in the order of the commits; and it waits for nothing afterwards, so
that no two transactions wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, func, select, update

from ha_tasks.model.audit import AuditEntry, AuditHead, entry_after
from ha_tasks.model.deeds import Deed
from ha_tasks.model.plain import Json
from ha_tasks.ports.audit import Chain
from ha_tasks.store.control_tables import audit_entry as entries
from ha_tasks.store.control_tables import audit_head as heads
from ha_tasks.store.engine import Database
from ha_tasks.store.rows import insert

BATCH = 2000
_ONE = 1
"""The head is one row."""


def record(connection: Connection, at: datetime, *deeds: Deed) -> None:
    """Adds entries in the caller's transaction. Call it last, or other writers wait for the rest.

    Without a deed nothing is asked; one takes two statements on PostgreSQL, three on SQLite.
    """
    if not deeds:
        return
    head, newest = _lock_head(connection)
    # A head that somebody set back must not keep recoveries from being written down: the entry
    # takes a free number, and verification finds that it does not follow the one before it.
    seq = max(head.seq, newest) + 1
    for deed in deeds:
        entry = entry_after(
            head,
            at=at,
            actor=deed.actor,
            verb=deed.verb,
            object=deed.object,
            before=deed.before,
            after=deed.after,
            seq=seq,
        )
        _add(connection, entry)
        head, seq = AuditHead(seq=entry.seq, hash=entry.hash), entry.seq + 1


def _lock_head(connection: Connection) -> tuple[AuditHead, int]:
    """(the head, locked until the transaction ends, number of the newest entry that can be seen)."""
    while True:
        row = connection.execute(_LOCKED).one_or_none()
        if row is not None:
            return AuditHead(seq=row.seq, hash=row.hash), row.newest
        first = _newest(connection)
        statement = insert(connection, heads).values(id=_ONE, seq=first.seq, hash=first.hash)
        connection.execute(statement.on_conflict_do_nothing())


def _newest(connection: Connection) -> AuditHead:
    """The head as the entries say it: genesis in a new store."""
    query = select(entries.c.seq, entries.c.hash).order_by(entries.c.seq.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return AuditHead() if row is None else AuditHead(seq=row.seq, hash=row.hash)


def _add(connection: Connection, entry: AuditEntry) -> None:
    values = {f"new_{name}": getattr(entry, name) for name in _COLUMNS}
    if connection.dialect.name == "postgresql":
        connection.execute(_ADDED_AND_MOVED, values)
    else:
        connection.execute(_ADDED, values)
        connection.execute(_MOVED, values)


# Put together once: every transaction that tells something executes these.
_COLUMNS = [column.name for column in entries.columns]
_LOCKED = (
    select(
        heads.c.seq,
        heads.c.hash,
        select(func.coalesce(func.max(entries.c.seq), 0)).scalar_subquery().label("newest"),
    )
    .where(heads.c.id == _ONE)
    .with_for_update(of=heads)
)
_ADDED = entries.insert().values({name: bindparam(f"new_{name}") for name in _COLUMNS})
_MOVED = update(heads).where(heads.c.id == _ONE).values(seq=bindparam("new_seq"), hash=bindparam("new_hash"))
_ADDED_AND_MOVED = _ADDED.add_cte(_MOVED.cte("moved"))


class SqlAudit:
    """Implements ``Audit``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(
        self,
        *,
        actor: str,
        verb: str,
        object: str,
        now: datetime,
        before: Json | None = None,
        after: Json | None = None,
    ) -> None:
        """See the port."""
        deed = Deed(actor=actor, verb=verb, object=object, before=before, after=after)
        with self._database.writing() as connection:
            record(connection, now, deed)

    def head(self) -> AuditHead:
        """See the port."""
        with self._database.reading() as connection:
            return _head(connection)

    def after(self, seq: int, limit: int) -> tuple[AuditEntry, ...]:
        """See the port."""
        with self._database.reading() as connection:
            return _after(connection, seq, limit)

    def latest(
        self,
        limit: int = 50,
        *,
        since: datetime | None = None,
        object: str | None = None,
        verb: str | None = None,
    ) -> tuple[AuditEntry, ...]:
        """See the port."""
        query = select(entries).order_by(entries.c.seq.desc()).limit(limit)
        if since is not None:
            query = query.where(entries.c.at >= since)
        if object is not None:
            query = query.where(entries.c.object == object)
        if verb is not None:
            query = query.where(
                (entries.c.verb == verb) | entries.c.verb.startswith(f"{verb}.", autoescape=True)
            )
        with self._database.reading() as connection:
            return tuple(_entry_of(row) for row in connection.execute(query))

    @contextmanager
    def chain(self) -> Iterator[Chain]:
        """See the port. One reading transaction: what is appended meanwhile is not seen."""
        with self._database.reading() as connection:
            yield Chain(head=_head(connection), entries=_all(connection))


def _head(connection: Connection) -> AuditHead:
    row = connection.execute(select(heads.c.seq, heads.c.hash).where(heads.c.id == _ONE)).one_or_none()
    return AuditHead() if row is None else AuditHead(seq=row.seq, hash=row.hash)


def _all(connection: Connection) -> Iterator[AuditEntry]:
    """In batches, so that a long chain needs little memory and no statement takes long."""
    seq: int | None = None
    while batch := _after(connection, seq, BATCH):
        yield from batch
        seq = batch[-1].seq


def _after(connection: Connection, seq: int | None, limit: int) -> tuple[AuditEntry, ...]:
    query: Select[Any] = select(entries).order_by(entries.c.seq).limit(limit)
    if seq is not None:
        query = query.where(entries.c.seq > seq)
    return tuple(_entry_of(row) for row in connection.execute(query))


def _entry_of(row: Row[Any]) -> AuditEntry:
    return AuditEntry(**row._mapping)
