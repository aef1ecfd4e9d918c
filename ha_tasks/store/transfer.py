"""Moving a whole store to another database: every row, every number that goes on counting, verified."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import URL, Connection, Table, func, insert, make_url, select, text

from ha_tasks.errors import Refused, UsageError
from ha_tasks.store import control_tables
from ha_tasks.store.engine import Database, shown
from ha_tasks.store.identity import MOVED_TO
from ha_tasks.store.migration import LIMIT_S, migrate
from ha_tasks.store.rows import put
from ha_tasks.store.tables import metadata

BATCH = 1000
_OWN_WORDS = frozenset({control_tables.identity.name})
"""A new store has its own id in this table, and nothing else."""


def transfer(source: str | URL, target: str | URL) -> Mapping[str, int]:
    """Copies every row of ``source``; answers how many of each table. Both are at the newest revision then.

    The source says afterwards that it was copied, so that nothing acts by it any more; the target has its
    identity. All or nothing in the target; writers of the source wait until it has ended. Refused for a
    target with rows in it; UsageError for the source itself.
    """
    if make_url(source) == make_url(target):
        raise UsageError("the store is there already: give the URL of another one")
    migrate(source)
    migrate(target)
    here, there = Database(source, limit_s=LIMIT_S), Database(target, limit_s=LIMIT_S)
    try:
        with here.writing() as old, there.writing() as new:
            _stand_still(old)
            counts = _copy(old, new)
            put(old, control_tables.identity, {"name": MOVED_TO, "value": shown(make_url(target))})
    finally:
        here.dispose()
        there.dispose()
    return counts


def _stand_still(connection: Connection) -> None:
    """Nobody writes to the source meanwhile. SQLite's transaction holds the one write lock already."""
    if connection.dialect.name == "postgresql":
        names = ", ".join(f'"{table.name}"' for table in metadata.sorted_tables)
        connection.execute(text(f"LOCK TABLE {names} IN EXCLUSIVE MODE"))


def _copy(old: Connection, new: Connection) -> dict[str, int]:
    tables = metadata.sorted_tables
    _must_be_empty(new)
    new.execute(control_tables.identity.delete())
    counts = {table.name: _copy_rows(table, old, new) for table in tables}
    for table in tables:
        if _number_of(new, table) != counts[table.name]:
            raise RuntimeError(f"{table.name} has {counts[table.name]} rows, and not all have arrived")
        _go_on_counting(table, old, new)
    return counts


def _must_be_empty(connection: Connection) -> None:
    for table in metadata.sorted_tables:
        if table.name not in _OWN_WORDS and _number_of(connection, table):
            raise Refused(f"the target is not empty: {table.name} has rows; give an empty database")


def _number_of(connection: Connection, table: Table) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def _copy_rows(table: Table, old: Connection, new: Connection) -> int:
    copied = 0
    for rows in old.execute(select(table)).mappings().partitions(BATCH):
        new.execute(insert(table), [dict(row) for row in rows])
        copied += len(rows)
    return copied


def _go_on_counting(table: Table, old: Connection, new: Connection) -> None:
    """Numbers that the database gives are never given twice, not even those of deleted rows."""
    column = table.autoincrement_column
    if column is None:
        return
    highest = max(_last_given(table, column.name, old), _highest(table, old))
    if not highest:
        return
    if new.dialect.name == "postgresql":
        sequence = select(func.pg_get_serial_sequence(f'"{table.name}"', column.name)).scalar_subquery()
        new.execute(select(func.setval(sequence, highest)))
    elif _counts_on(table):
        new.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), {"name": table.name})
        new.execute(
            text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"),
            {"name": table.name, "seq": highest},
        )


def _highest(table: Table, connection: Connection) -> int:
    column = table.autoincrement_column
    return int(connection.execute(select(func.max(column))).scalar() or 0)


def _last_given(table: Table, column: str, connection: Connection) -> int:
    """The last number that the database gave, 0 when it has given none or does not remember."""
    if connection.dialect.name == "postgresql":
        name = connection.execute(select(func.pg_get_serial_sequence(f'"{table.name}"', column))).scalar()
        if name is None:
            return 0
        last, called = connection.execute(text(f"SELECT last_value, is_called FROM {name}")).one()  # noqa: S608
        return int(last) if called else 0
    if not _counts_on(table):
        return 0
    query = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
    return int(connection.execute(query, {"name": table.name}).scalar() or 0)


def _counts_on(table: Table) -> bool:
    """True where SQLite remembers the last number that it gave."""
    return bool(table.dialect_options["sqlite"].get("autoincrement"))
