"""The outbox: one row per run that has not ended, and the rule by which a message is owed again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from ha_tasks.model.message import Message, message_for
from ha_tasks.model.run import Run
from ha_tasks.store.tables import outbox
from ha_tasks.store.tables import run as runs

_POST = insert(outbox).returning(outbox.c.id)
_TICK = (
    update(outbox)
    .where(outbox.c.id.in_(bindparam("numbers", expanding=True)))
    .values(sent_at=bindparam("now"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """What is known about the message for a run's current step. All times aware UTC.

    ``due``: not before then. ``offered_at``: when somebody was last given it to send; None: nobody yet.
    ``sent_at``: when the broker took it. ``lease_until``: end of the executor's lease; None: nobody
    holds the run.
    """

    due: datetime | None
    offered_at: datetime | None
    sent_at: datetime | None
    lease_until: datetime | None


def owed(posting: Posting, now: datetime, unsent_after_s: float, silent_after_s: float) -> bool:
    """True when the message must be sent (again) now. Pure.

    A retry is owed as soon as it is due; the step of a dead executor as soon as its lease is over; an
    unsent message ``unsent_after_s`` seconds after it was handed out; one that was sent and that
    nobody came for, after ``silent_after_s``.
    """
    if _later(posting.lease_until, now) or _later(posting.due, now):
        return False
    if posting.offered_at is None:
        return True
    if posting.lease_until is not None and posting.offered_at < posting.lease_until:
        return True
    if posting.sent_at is None:
        return now - posting.offered_at >= timedelta(seconds=unsent_after_s)
    return now - posting.sent_at >= timedelta(seconds=silent_after_s)


def _later(moment: datetime | None, now: datetime) -> bool:
    return moment is not None and moment > now


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """A message in the outbox, and what is known about it."""

    message: Message
    posting: Posting


def post(connection: Connection, run: Run, *, offered_at: datetime | None) -> Message:
    """Puts the message for the run's current step into the outbox."""
    message = message_for(run)
    values = {
        "run": run.id,
        "task": message.task,
        "queue": str(message.queue),
        "kwargs": message.kwargs,
        "offered_at": offered_at,
    }
    return replace(message, id=connection.execute(_POST, values).scalar_one())


def postings(connection: Connection) -> tuple[Posted, ...]:
    """Everything in the outbox, oldest first."""
    query = select(outbox, runs.c.due, runs.c.lease_until).join(runs, runs.c.id == outbox.c.run)
    return tuple(
        Posted(
            message=Message(task=row.task, queue=row.queue, kwargs=row.kwargs, id=row.id),
            posting=Posting(
                due=row.due, offered_at=row.offered_at, sent_at=row.sent_at, lease_until=row.lease_until
            ),
        )
        for row in connection.execute(query.order_by(outbox.c.id))
    )


def offer(connection: Connection, seen: Posted, now: datetime) -> bool:
    """Marks a message as handed out now; False when another sweeper or an executor came first."""
    unchanged = (
        (outbox.c.id == seen.message.id)
        & outbox.c.offered_at.is_not_distinct_from(seen.posting.offered_at)
        & outbox.c.sent_at.is_not_distinct_from(seen.posting.sent_at)
    )
    moved = connection.execute(update(outbox).where(unchanged).values(offered_at=now, sent_at=None))
    return moved.rowcount == 1


def tick(connection: Connection, numbers: Sequence[int], now: datetime) -> None:
    """Notes that the broker took these messages; one that was replaced since is not there any more."""
    connection.execute(_TICK, {"numbers": list(numbers), "now": now})


def withdraw(connection: Connection, run: int) -> None:
    """Takes the run's message back."""
    connection.execute(delete(outbox).where(outbox.c.run == run))
