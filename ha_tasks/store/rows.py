"""What both databases say alike, but SQLAlchemy only per dialect: insert or update; and sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Table, bindparam
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningInsert

from ha_tasks.store.tables import sequence

Insert = sqlite.Insert | postgresql.Insert


def insert(connection: Connection, table: Table[Any]) -> Insert:
    """An INSERT that knows ON CONFLICT, in the connection's dialect."""
    return _inserting(connection.dialect.name, table)


def _inserting(dialect: str, table: Table[Any]) -> Insert:
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


def put(connection: Connection, table: Table[Any], values: Mapping[str, Any]) -> None:
    """Inserts the row, or replaces what the row of the same primary key says."""
    key = [column.name for column in table.primary_key]
    rest = {name: value for name, value in values.items() if name not in key}
    statement = insert(connection, table).values(**values)
    connection.execute(statement.on_conflict_do_update(index_elements=key, set_=rest))


def add_up(
    connection: Connection, table: Table[Any], rows: Sequence[Mapping[str, Any]], *summed: str
) -> None:
    """Inserts the rows, or adds their ``summed`` columns to those of the rows that exist.

    Rows are taken in the order of their keys, so that two transactions never wait for each other.
    """
    if not rows:
        return
    key = [column.name for column in table.primary_key]
    ordered = sorted(rows, key=lambda row: [row[name] for name in key])
    # A list of one takes the driver's way for many.
    connection.execute(
        _adding(connection.dialect.name, table, summed), ordered if ordered[1:] else ordered[0]
    )


@cache
def _adding(dialect: str, table: Table[Any], summed: tuple[str, ...]) -> Insert:
    """Made once: to make a statement costs more than to execute it, and this one comes with every step."""
    statement = _inserting(dialect, table)
    sums = {name: table.c[name] + statement.excluded[name] for name in summed}
    key = [column.name for column in table.primary_key]
    return statement.on_conflict_do_update(index_elements=key, set_=sums)


def next_value(connection: Connection, name: str) -> int:
    """The next number of a sequence, from 1, without gaps that another transaction could see used."""
    statement = _counting(connection.dialect.name)
    return int(connection.execute(statement, {"sequence": name}).scalar_one())


@cache
def _counting(dialect: str) -> ReturningInsert[int]:
    statement = _inserting(dialect, sequence).values(name=bindparam("sequence"), value=1)
    further = statement.on_conflict_do_update(index_elements=["name"], set_={"value": sequence.c.value + 1})
    return further.returning(sequence.c.value)


def raise_value(connection: Connection, name: str, at_least: int) -> None:
    """Lets a sequence go on from ``at_least``, unless it is further already."""
    statement = insert(connection, sequence).values(name=name, value=at_least)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["name"],
            set_={"value": at_least},
            where=sequence.c.value < at_least,
        )
    )
