"""What both databases say alike, but SQLAlchemy only per dialect: insert or update; and sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

from ha_tasks.store.tables import sequence

Insert = sqlite.Insert | postgresql.Insert


def insert(connection: Connection, table: Table[Any]) -> Insert:
    """An INSERT that knows ON CONFLICT, in the connection's dialect."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)


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
    statement = insert(connection, table)
    sums = {name: table.c[name] + statement.excluded[name] for name in summed}
    ordered = sorted(rows, key=lambda row: [row[name] for name in key])
    connection.execute(statement.on_conflict_do_update(index_elements=key, set_=sums), ordered)


def next_value(connection: Connection, name: str) -> int:
    """The next number of a sequence, from 1, without gaps that another transaction could see used."""
    statement = insert(connection, sequence).values(name=name, value=1)
    statement = statement.on_conflict_do_update(index_elements=["name"], set_={"value": sequence.c.value + 1})
    return int(connection.execute(statement.returning(sequence.c.value)).scalar_one())


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
