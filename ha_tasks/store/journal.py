"""The journal in SQL: runs, leases, attempts, the outbox. See ports/repositories.py for the contract."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select, update

from ha_tasks.errors import IdempotencyConflict, ScopeBusy
from ha_tasks.model.deeds import run_approved, run_created, run_moved, run_settled
from ha_tasks.model.measures import measured
from ha_tasks.model.message import Message
from ha_tasks.model.plain import Json
from ha_tasks.model.playbook import Acceptance
from ha_tasks.model.run import (
    TERMINAL,
    Phase,
    Run,
    RunState,
    Step,
    StepState,
    approved,
    broken_off,
    called_off,
    claimed,
    leaves_nothing,
    overdue,
)
from ha_tasks.ports.repositories import Attempt, NewRun
from ha_tasks.store.audit import record
from ha_tasks.store.engine import Database
from ha_tasks.store.outbox import offer, owed, post, postings, tick, withdraw
from ha_tasks.store.plans import order_of, plan_to_json
from ha_tasks.store.rows import insert, next_value, raise_value
from ha_tasks.store.runs import (
    changed_steps,
    load,
    new_step,
    progress,
    run_values,
    stale,
    step_values,
)
from ha_tasks.store.step_statements import CAPTURE, CLAIM, SETTLE, STEP, TAKEABLE, TELL
from ha_tasks.store.tables import attempt as attempts
from ha_tasks.store.tables import run as runs
from ha_tasks.store.tables import step as steps
from ha_tasks.store.tallies import tally_of

FENCE = "fence"


class SqlJournal:
    """Implements ``Journal``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, new: NewRun, now: datetime) -> tuple[Run, Message | None]:
        """See the port. The unique indexes decide between callers, so no order of theirs matters."""
        with self._database.writing() as connection:
            known = _known(connection, new)
            if known is not None:
                return known, None
            made = _insert_run(connection, new, now)
            if made is None:
                # Only another transaction that committed meanwhile can be in the way here.
                return _other(connection, new), None
            run = replace(_first_state(new, now), id=made)
            connection.execute(insert(connection, steps), [new_step(made, step) for step in run.steps])
            waits = run.state is RunState.AWAITING_APPROVAL
            message = None if waits else post(connection, run, offered_at=now)
            record(connection, now, run_created(run))
            return run, message

    def approve(
        self, run: int, by: str, now: datetime, why: str = "", accepts: Acceptance | None = None
    ) -> Message | None:
        """See the port. The row is locked, so of several persons one approves."""
        with self._database.writing() as connection:
            found = load(connection, select(runs).where(runs.c.id == run).with_for_update())
            if not found or found[0].state is not RunState.AWAITING_APPROVAL or overdue(found[0], now):
                return None
            after = approved(found[0], by, now, accepts)
            changed = {**progress(after), "approved_by": by, "plan": plan_to_json(after.plan)}
            connection.execute(update(runs).where(runs.c.id == run).values(changed))
            message = post(connection, after, offered_at=now)
            record(connection, now, run_approved(found[0], after, by, why))
            return message

    def call_off(self, run: int, why: str, now: datetime, by: str) -> Run | None:
        """See the port. An executor that claims it at the same time waits for the row, and finds it ended."""
        unclaimed = (runs.c.id == run) & runs.c.ended_at.is_(None) & (runs.c.fence == 0)
        with self._database.writing() as connection:
            found = load(connection, select(runs).where(unclaimed).with_for_update())
            if not found:
                return None
            after = called_off(found[0], why, now)
            connection.execute(update(runs).where(unclaimed).values(progress(after)))
            withdraw(connection, run)
            record(connection, now, run_moved(found[0], after, by))
            return after

    def break_off(self, run: int, why: str, now: datetime, by: str) -> Run | None:
        """See the port. The row is locked: its executor settles before, and is looked at, or too late."""
        begun = (runs.c.id == run) & runs.c.ended_at.is_(None) & (runs.c.fence > 0)
        with self._database.writing() as connection:
            found = load(connection, select(runs).where(begun).with_for_update())
            if not found or not leaves_nothing(found[0]):
                return None
            after = broken_off(found[0], now, why)
            free = {"lease_owner": None, "lease_until": None, "due": None}
            connection.execute(update(runs).where(begun).values({**progress(after), **free}))
            for step in changed_steps(found[0], after):
                connection.execute(STEP, {"number": run, **step_values(step)})
            open_ones = (attempts.c.run == run) & attempts.c.ended_at.is_(None)
            connection.execute(update(attempts).where(open_ones).values(ended_at=now, outcome="lost"))
            withdraw(connection, run)
            record(connection, now, run_moved(found[0], after, by))
            return after

    def last_done(self, service: str, action: str) -> datetime | None:
        """See the port."""
        done = (steps.c.action == action) & (steps.c.state == str(StepState.DONE))
        query = select(func.max(steps.c.ended_at)).join(runs, runs.c.id == steps.c.run)
        with self._database.reading() as connection:
            return connection.execute(query.where(done, runs.c.service == service)).scalar()

    def get(self, run: int) -> Run:
        """See the port."""
        with self._database.reading() as connection:
            found = load(connection, select(runs).where(runs.c.id == run))
        if not found:
            raise KeyError(run)
        return found[0]

    def recent(self, limit: int = 20) -> tuple[Run, ...]:
        """See the port."""
        with self._database.reading() as connection:
            return load(connection, select(runs).order_by(runs.c.id.desc()).limit(limit))

    def active(self) -> tuple[Run, ...]:
        """See the port. Put in order here: asked to do it, SQLite reads every run that ever was."""
        with self._database.reading() as connection:
            found = load(connection, select(runs).where(runs.c.ended_at.is_(None)))
        return tuple(sorted(found, key=lambda run: run.id))

    def claim(
        self, run: int, step: int, phase: str, *, owner: str, now: datetime, lease_s: float
    ) -> Run | None:
        """See the port. The row is locked while it is judged, and written only if it did not move."""
        asked = {"r_id": run, "r_position": step, "r_phase": str(phase), "r_now": now}
        with self._database.writing() as connection:
            found = load(connection, TAKEABLE, asked)
            if not found:
                return None
            taken = replace(
                claimed(found[0], now),
                fence=next_value(connection, FENCE),
                lease_owner=owner,
                lease_until=now + timedelta(seconds=lease_s),
            )
            return taken if _take(connection, found[0], taken, now) else None

    def next_fence(self, now: datetime) -> int:  # noqa: ARG002 - a fence is a number, not a time
        """See the port."""
        with self._database.writing() as connection:
            return next_value(connection, FENCE)

    def raise_fence(self, above: int) -> None:
        """See the port. Idempotent; it never goes down."""
        with self._database.writing() as connection:
            raise_value(connection, FENCE, above)

    def renew(self, run: int, fence: int, now: datetime, lease_s: float) -> bool:
        """See the port."""
        until = now + timedelta(seconds=lease_s)
        with self._database.jotting() as connection:
            renewed = connection.execute(
                update(runs)
                .where(runs.c.id == run, runs.c.fence == fence, runs.c.lease_owner.is_not(None))
                .values(lease_until=until)
            )
            return renewed.rowcount == 1

    def capture(self, run: int, fence: int, step: int, captured: Json) -> None:
        """See the port."""
        values = {"r_id": run, "r_fence": fence, "s_no": step, "s_captured": captured}
        with self._database.jotting() as connection:
            if connection.execute(CAPTURE, values).rowcount != 1:
                raise stale(run, fence)

    def tell(self, run: int, fence: int, step: int, progress: Json) -> None:
        """See the port."""
        values = {"r_id": run, "r_fence": fence, "s_no": step, "s_output": progress}
        with self._database.jotting() as connection:
            if connection.execute(TELL, values).rowcount != 1:
                raise stale(run, fence)

    def settle(
        self, before: Run, after: Run, fence: int, *, outcome: str, error: str, due: datetime | None
    ) -> Message | None:
        """See the port."""
        step, *others = changed_steps(before, after)
        ended = {"r_fence": fence, "r_due": due, "a_ended_at": after.updated_at}
        told = {"a_outcome": outcome, "a_error": error}
        with self._database.writing() as connection:
            values = {**run_values(after), **step_values(step), **ended, **told}
            if not SETTLE.execute(connection, values):
                raise stale(after.id, fence)
            for other in others:
                connection.execute(STEP, {"number": after.id, **step_values(other)})
            message = None
            if after.state not in TERMINAL:
                message = post(connection, after, offered_at=after.updated_at if due is None else None)
            tally_of(measured(before, after)).write(connection)
            record(connection, after.updated_at, *run_settled(before, after))
            return message if due is None else None

    def sweep(self, now: datetime, unsent_after_s: float, silent_after_s: float) -> tuple[Message, ...]:
        """See the port. Of several sweepers only one is given a message."""
        with self._database.reading() as connection:
            seen = [s for s in postings(connection) if owed(s.posting, now, unsent_after_s, silent_after_s)]
        if not seen:
            return ()
        with self._database.writing() as connection:
            return tuple(s.message for s in seen if offer(connection, s, now))

    def sent(self, messages: Sequence[Message], now: datetime) -> None:
        """See the port."""
        ids = [message.id for message in messages if message.id is not None]
        with self._database.jotting() as connection:
            tick(connection, ids, now)

    def attempts(self, run: int) -> tuple[Attempt, ...]:
        """See the port."""
        query = select(attempts).where(attempts.c.run == run).order_by(attempts.c.fence)
        with self._database.reading() as connection:
            return tuple(
                Attempt(
                    step=row.step,
                    phase=row.phase,
                    fence=row.fence,
                    worker=row.worker,
                    started_at=row.started_at,
                    ended_at=row.ended_at,
                    outcome=row.outcome,
                    error=row.error,
                )
                for row in connection.execute(query)
            )

    def started_since(self, since: datetime) -> int:
        """See the port."""
        query = select(func.count()).where(runs.c.created_at >= since, runs.c.mode != "drill")
        with self._database.reading() as connection:
            return int(connection.execute(query).scalar_one())


def _known(connection: Connection, new: NewRun) -> Run | None:
    """The run of the same idempotency key. Raises IdempotencyConflict when its plan is another."""
    found = load(connection, select(runs).where(runs.c.idempotency_key == new.idempotency_key))
    if not found:
        return None
    if _plain(order_of(found[0].plan)) != _plain(order_of(new.plan)):
        raise IdempotencyConflict(
            f"key {new.idempotency_key} was used by run {found[0].id}, with another plan"
        )
    return found[0]


def _plain(body: Json) -> Json:
    """What a JSON column gives back: lists for tuples."""
    return dict(json.loads(json.dumps(body)))


def _other(connection: Connection, new: NewRun) -> Run:
    """The run whose unique value kept this one out: of the same key, else (ScopeBusy) on the scope."""
    known = _known(connection, new)
    if known is not None:
        return known
    active = select(runs.c.id).where(runs.c.scope == new.plan.scope, runs.c.ended_at.is_(None))
    holder = connection.execute(active).scalar()
    raise ScopeBusy(f"run {holder} is active on {new.plan.scope}" if holder else f"{new.plan.scope} was busy")


def _first_state(new: NewRun, now: datetime) -> Run:
    return Run(
        id=0,
        incident=new.incident,
        plan=new.plan,
        state=RunState.PENDING if new.approval_until is None else RunState.AWAITING_APPROVAL,
        phase=Phase.DO,
        position=1,
        fence=0,
        steps=tuple(Step(planned=planned) for planned in new.plan.steps),
        mode=new.mode,
        requested_by=new.requested_by,
        reason=new.reason,
        created_at=now,
        updated_at=now,
        revision=new.revision,
        approval_until=new.approval_until,
        deadline=new.deadline,
    )


def _insert_run(connection: Connection, new: NewRun, now: datetime) -> int | None:
    """The number of the new row; None when a unique index kept it out."""
    statement = insert(connection, runs).values(
        **progress(_first_state(new, now)),
        incident=new.incident,
        idempotency_key=new.idempotency_key,
        service=new.plan.service,
        scope=new.plan.scope,
        playbook=new.plan.playbook,
        plan=plan_to_json(new.plan),
        mode=new.mode,
        requested_by=new.requested_by,
        reason=new.reason,
        fence=0,
        created_at=now,
        revision=new.revision,
        approval_until=new.approval_until,
        deadline=new.deadline,
    )
    return connection.execute(statement.on_conflict_do_nothing().returning(runs.c.id)).scalar()


def _take(connection: Connection, before: Run, taken: Run, now: datetime) -> bool:
    """Writes a claim: the lease, the step, the attempt."""
    if before.lease_owner is not None:
        # Its executor settled nothing: whoever does, gives the lease back in the same transaction.
        died = (attempts.c.run == taken.id) & attempts.c.ended_at.is_(None)
        connection.execute(update(attempts).where(died).values(ended_at=now, outcome="lost"))
    step, *others = changed_steps(before, taken)
    values = {**run_values(taken), **step_values(step), **_lease(taken), **_attempt(taken, now)}
    if not CLAIM.execute(connection, {**values, "r_before": before.fence}):
        return False
    for other in others:
        connection.execute(STEP, {"number": taken.id, **step_values(other)})
    return True


def _lease(taken: Run) -> Json:
    return {
        "r_fence": taken.fence,
        "r_lease_owner": taken.lease_owner,
        "r_lease_until": taken.lease_until,
    }


def _attempt(taken: Run, now: datetime) -> Json:
    return {
        "a_fence": taken.fence,
        "a_step": taken.position,
        "a_phase": str(taken.phase),
        "a_worker": taken.lease_owner,
        "a_started_at": now,
        "a_outcome": "running",
        "a_error": "",
    }
