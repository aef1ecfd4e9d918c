"""The statements that every step takes, each made once: to make one costs more than to execute it.

Their parameters begin with the letter of their table: ``r_`` run, ``s_`` step, ``a_`` attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    Connection,
    Delete,
    Insert,
    Update,
    bindparam,
    delete,
    insert,
    select,
    update,
)

from ha_tasks.model.run import RunState
from ha_tasks.store.tables import attempt as attempts
from ha_tasks.store.tables import outbox
from ha_tasks.store.tables import run as runs
from ha_tasks.store.tables import step as steps

Number: TypeAlias = ColumnElement[int]
Dml: TypeAlias = Insert | Update | Delete


class Together:
    """Changes one row, and then what goes with it.

    PostgreSQL does it in one statement, for each of them is a way there and back: ``first`` locks its row,
    and the others are made to depend on its number, so that none of them comes before it.
    """

    def __init__(self, first: Update, number: Column[int], *then: Callable[[Number], Dml]) -> None:
        """``then``: each is given the number of the row that ``first`` has changed."""
        self._first = first.returning(number)
        self._apart = [make(bindparam("number")) for make in then]
        changed = self._first.cte("changed")
        mine = select(changed.c[number.name]).scalar_subquery()
        others = [make(mine).cte(f"then_{place}") for place, make in enumerate(then)]
        self._whole = select(changed.c[number.name]).add_cte(*others)

    def execute(self, connection: Connection, values: Mapping[str, Any]) -> bool:
        """False: there was no such row, and nothing was changed."""
        if connection.dialect.name == "postgresql":
            return connection.execute(self._whole, values).scalar() is not None
        number = connection.execute(self._first, values).scalar()
        if number is not None:
            for statement in self._apart:
                connection.execute(statement, {**values, "number": number})
        return number is not None


def _given(letter: str, *names: str) -> dict[str, BindParameter[Any]]:
    """Column -> its parameter."""
    return {name: bindparam(f"{letter}_{name}") for name in names}


_HELD = (
    (runs.c.id == bindparam("r_id"))
    & (runs.c.fence == bindparam("r_fence"))
    & runs.c.lease_owner.is_not(None)
)
_PROGRESS = _given("r", "state", "phase", "position", "error", "updated_at", "ended_at")
_STEP_PROGRESS = _given("s", "state", "attempts", "output", "error", "started_at", "ended_at")


def _step_written(run: Number) -> Update:
    where = (steps.c.run == run) & (steps.c.no == bindparam("s_no"))
    return update(steps).where(where).values(_STEP_PROGRESS)


def _attempt_begun(run: Number) -> Insert:
    given = _given("a", "fence", "step", "phase", "worker", "started_at", "outcome", "error")
    return insert(attempts).values({**given, "run": run})


def _attempt_ended(run: Number) -> Update:
    where = (attempts.c.run == run) & (attempts.c.fence == bindparam("r_fence"))
    return update(attempts).where(where).values(_given("a", "ended_at", "outcome", "error"))


def _withdrawn(run: Number) -> Delete:
    return delete(outbox).where(outbox.c.run == run)


TAKEABLE = (
    select(runs)
    .where(
        runs.c.id == bindparam("r_id"),
        runs.c.ended_at.is_(None),
        runs.c.state != str(RunState.AWAITING_APPROVAL),
        runs.c.position == bindparam("r_position"),
        runs.c.phase == bindparam("r_phase"),
        runs.c.lease_until.is_(None) | (runs.c.lease_until <= bindparam("r_now")),
        runs.c.due.is_(None) | (runs.c.due <= bindparam("r_now")),
    )
    .with_for_update()
)
"""The run, if its step can be taken; its row is locked."""

STEPS_OF = (
    select(steps).where(steps.c.run.in_(bindparam("runs", expanding=True))).order_by(steps.c.run, steps.c.no)
)

HOLDING = select(runs.c.id).where(_HELD).with_for_update()
"""The run's number while the fence is its own, its row locked; otherwise nothing."""

CLAIM = Together(
    update(runs)
    .where(runs.c.id == bindparam("r_id"), runs.c.fence == bindparam("r_before"), runs.c.ended_at.is_(None))
    .values({**_PROGRESS, **_given("r", "fence", "lease_owner", "lease_until"), "due": None}),
    runs.c.id,
    _step_written,
    _attempt_begun,
)

CAPTURE = (
    update(steps)
    .where(steps.c.run == HOLDING.scalar_subquery(), steps.c.no == bindparam("s_no"))
    .values(_given("s", "captured"))
)
"""One statement: its subquery locks the run's row."""

TELL = (
    update(steps)
    .where(steps.c.run == HOLDING.scalar_subquery(), steps.c.no == bindparam("s_no"))
    .values(_given("s", "output"))
)
"""As CAPTURE."""

SETTLE = Together(
    update(runs)
    .where(_HELD)
    .values({**_PROGRESS, **_given("r", "due"), "lease_owner": None, "lease_until": None}),
    runs.c.id,
    _step_written,
    _attempt_ended,
    _withdrawn,
)

STEP = _step_written(bindparam("number"))
"""A step that changes beside the one that is being taken."""
