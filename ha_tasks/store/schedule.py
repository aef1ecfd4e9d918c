"""The beat schedule in SQL: latest successes, claimed ticks. See ports/ for the contracts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, func, select, update

from ha_tasks.errors import StaleFence
from ha_tasks.model.schedule import Move, Tick, TickState, state_when_claimed
from ha_tasks.names import Counter
from ha_tasks.store.control_tables import schedule_tick as ticks
from ha_tasks.store.engine import Database
from ha_tasks.store.leadership import still_leads
from ha_tasks.store.rows import insert
from ha_tasks.store.tables import schedule_entry as entries
from ha_tasks.store.tallies import Tally


class SqlScheduleBook:
    """Implements ``ScheduleBook``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def succeeded(self, entry: str, at: datetime) -> None:
        """See the port. Idempotent."""
        with self._database.writing() as connection:
            statement = insert(connection, entries).values(name=entry, succeeded_at=at)
            later = statement.excluded.succeeded_at
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["name"],
                    set_={"succeeded_at": later},
                    where=entries.c.succeeded_at < later,
                )
            )

    def successes(self) -> Mapping[str, datetime]:
        """See the port."""
        with self._database.reading() as connection:
            rows = connection.execute(select(entries)).all()
        return {row.name: row.succeeded_at for row in rows}

    def last_tick(self) -> datetime | None:
        """See the port."""
        with self._database.reading() as connection:
            return connection.execute(select(func.max(ticks.c.changed_at))).scalar()


class SqlTickBook:
    """Implements ``TickBook``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ticks(self) -> Mapping[str, Tick]:
        """See the port."""
        with self._database.reading() as connection:
            rows = connection.execute(select(ticks)).all()
        return {
            row.name: Tick(
                due_at=row.due_at,
                fence=row.fence,
                state=TickState(row.state),
                changed_at=row.changed_at,
            )
            for row in rows
        }

    def claim(
        self, leadership: str, fence: int, moves: Sequence[Move], now: datetime, until: datetime
    ) -> tuple[Move, ...]:
        """See the port."""
        with self._database.writing() as connection:
            if not still_leads(connection, leadership, fence, until):
                raise StaleFence(f"fence {fence} is no longer that of {leadership}")
            claimed = tuple(move for move in moves if _claim(connection, move, fence, now))
            _count(connection, ((move, move.missed) for move in claimed))
            return claimed

    def settle(self, fence: int, sent: Sequence[Move], owed: Sequence[Move], now: datetime) -> None:
        """See the port."""
        with self._database.writing() as connection:
            for move in owed:
                _settle(connection, move, fence, TickState.OWED, now)
            settled = [move for move in sent if _settle(connection, move, fence, TickState.SENT, now)]
            _count(connection, ((move, 1) for move in settled if move.again))


def _claim(connection: Connection, move: Move, fence: int, now: datetime) -> bool:
    """False when the tick that the move replaces is no longer the newest."""
    values = {
        "due_at": move.due_at,
        "fence": fence,
        "state": str(state_when_claimed(move)),
        "changed_at": now,
    }
    if move.before is None:
        made = insert(connection, ticks).values(name=move.entry.name, **values).on_conflict_do_nothing()
        return connection.execute(made.returning(ticks.c.name)).scalar() is not None
    newest = (
        (ticks.c.name == move.entry.name)
        & (ticks.c.due_at == move.before.due_at)
        & (ticks.c.fence == move.before.fence)
        & (ticks.c.state == str(move.before.state))
        & (ticks.c.changed_at == move.before.changed_at)
    )
    return connection.execute(update(ticks).where(newest).values(values)).rowcount == 1


def _settle(connection: Connection, move: Move, fence: int, state: TickState, now: datetime) -> bool:
    mine = (
        (ticks.c.name == move.entry.name)
        & (ticks.c.due_at == move.due_at)
        & (ticks.c.fence == fence)
        & (ticks.c.state == str(TickState.CLAIMED))
    )
    settled = update(ticks).where(mine).values(state=str(state), changed_at=now)
    return connection.execute(settled).rowcount == 1


def _count(connection: Connection, missed: Iterable[tuple[Move, int]]) -> None:
    tally = Tally()
    for move, number in missed:
        if number:
            labels = {"entry": move.entry.name, "handling": str(move.entry.missed)}
            tally.count(Counter.SCHEDULE_MISSED, labels, number)
    tally.write(connection)
