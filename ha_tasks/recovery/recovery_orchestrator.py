"""RecoveryOrchestrator: takes a run one step further, under a fenced lease.

claim (fence + 1) -> check whether it is already so -> capture what undo needs -> do -> verify ->
settle: the outcome and the message for the next step, in one transaction -> send it.
Lost, doubled and reordered messages, dead and paused executors are all harmless: the journal says
what is next, the lease says whose it is, and a stale fence can write nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from ha_tasks.errors import BrokerUnreachable, HaTasksError, StaleFence
from ha_tasks.model.incident import Incident
from ha_tasks.model.message import Message
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Platform
from ha_tasks.model.run import (
    TERMINAL,
    Outcome,
    Phase,
    Run,
    StepState,
    aborted,
    after,
    exhausted,
)
from ha_tasks.ports.action import Action, StepContext
from ha_tasks.ports.boundary import Boundary, nobody
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.dispatch import Dispatch
from ha_tasks.ports.lease import LeaseKeeper
from ha_tasks.ports.repositories import Incidents, Journal
from ha_tasks.recovery.rollback_controller import RollbackController

RETRY_AFTER = timedelta(seconds=0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance:
    """``taken`` False: there was nothing to take, which is no error."""

    taken: bool
    run: Run | None = None
    error: str = ""

    def to_json(self) -> Json:
        """For the Celery result and the log."""
        if self.run is None:
            return {"taken": self.taken, "error": self.error}
        return {
            "taken": self.taken,
            "run": self.run.id,
            "state": str(self.run.state),
            "error": self.error,
        }


class RecoveryOrchestrator:
    """Any number of these, in any process, may be told to take the same step."""

    def __init__(
        self,
        *,
        platform: Platform,
        journal: Journal,
        incidents: Incidents,
        actions: Mapping[str, Action],
        clock: Clock,
        dispatch: Dispatch,
        leases: LeaseKeeper,
        owner: str,
        settled: Callable[[Run, Run], None],
        stopped: Callable[[], bool] = lambda: False,
        boundary: Boundary = nobody,
    ) -> None:
        self._platform = platform
        self._journal = journal
        self._incidents = incidents
        self._actions = actions
        self._rollback = RollbackController(actions)
        self._clock = clock
        self._dispatch = dispatch
        self._leases = leases
        self._owner = owner
        self._settled = settled
        self._stopped = stopped
        self._boundary = boundary

    def advance(self, run_id: int, step: int, phase: Phase) -> Advance:
        """Takes that step of the run, if it is still to be taken."""
        run = self._journal.claim(
            run_id,
            step,
            phase,
            owner=self._owner,
            now=self._clock.now(),
            lease_s=self._platform.policies.lease_s,
        )
        if run is None:
            return Advance(taken=False)
        self._reached(run, "claimed")
        if run.phase is Phase.DO and run.current.state is StepState.RUNNING and self._stopped():
            return self._abort(run)
        try:
            with self._leases.keep(run) as lost:
                outcome = self._attempt(run, lost)
            self._reached(run, "done")
            ended = self._settle(run, outcome)
        except StaleFence as error:
            return Advance(taken=False, error=str(error))
        return Advance(taken=True, run=ended, error=outcome.error)

    def drive(self, run_id: int, deadline: datetime) -> Run:
        """Takes step after step in this process, until the run has ended or the deadline passed.

        Works beside other executors: what they hold is waited for, what they lost is taken over.
        """
        while True:
            run = self._journal.get(run_id)
            if run.state in TERMINAL or self._clock.now() >= deadline:
                return run
            if not self.advance(run.id, run.position, run.phase).taken:
                self._clock.pause(0.1)

    def send(self, message: Message) -> None:
        """Hands a message to the broker; if it cannot be had, the outbox keeps it for the sweeper."""
        try:
            self._dispatch.send(message)
        except BrokerUnreachable:
            return
        self._journal.sent([message], self._clock.now())

    def sweep(self) -> int:
        """Sends again what was lost: unsent messages, steps whose executor died. Answers how many."""
        messages = self._journal.sweep(self._clock.now(), unsent_after_s=0.5, silent_after_s=1.5)
        for message in messages:
            self.send(message)
        return len(messages)

    def _abort(self, run: Run) -> Advance:
        """Only what was not begun can be left; a compensation under way goes on."""
        ended = aborted(run, self._clock.now())
        self._journal.settle(run, ended, run.fence, outcome="aborted", error=ended.error, due=None)
        self._settled(run, ended)
        return Advance(taken=True, run=ended, error=ended.error)

    def _attempt(self, run: Run, lost: Callable[[], bool]) -> Outcome:
        step = run.current
        ctx = self._context(run, lost)
        if exhausted(run):
            return Outcome(ok=False, error=f"its executor died {step.attempts - 1} times")
        if run.phase is Phase.UNDO:
            return self._rollback.undo(step.action, ctx)
        try:
            return self._do(run, self._actions[step.action], ctx)
        except HaTasksError as error:
            if isinstance(error, StaleFence):
                raise
            retry = RETRY_AFTER.total_seconds()
            return Outcome(ok=False, error=str(error), passing=error.retryable, retry_after_s=retry)

    def _do(self, run: Run, action: Action, ctx: StepContext) -> Outcome:
        step = run.current
        if step.captured is None:
            captured = action.capture(ctx)
            self._journal.capture(run.id, run.fence, step.no, captured)
            ctx = self._context(run, ctx.lost, captured)
        self._reached(run, "captured")
        begun_before = step.state is StepState.UNKNOWN or step.attempts > 1
        output = action.check(ctx) if begun_before else None
        if output is None:
            output = action.do(ctx)
        action.verify(ctx)
        return Outcome(ok=True, output=output)

    def _settle(self, run: Run, outcome: Outcome) -> Run:
        now = self._clock.now()
        ended = after(run, outcome, now)
        again = ended.position == run.position and ended.phase is run.phase
        due = now + RETRY_AFTER if again and ended.state not in TERMINAL else None
        message = self._journal.settle(
            run,
            ended,
            run.fence,
            outcome="ok" if outcome.ok else "failed",
            error=outcome.error,
            due=due,
        )
        self._reached(run, "settled")
        if message is not None:
            self.send(message)
        self._reached(run, "sent")
        self._settled(run, ended)
        return ended

    def _context(self, run: Run, lost: Callable[[], bool], captured: Json | None = None) -> StepContext:
        step = run.current
        ends = self._clock.monotonic() + step.planned.timeout_s
        return StepContext(
            run=run.id,
            step=step.no,
            key=f"run-{run.id}-step-{step.no}",
            service=self._platform.services[run.plan.service],
            incident=self._incident(run),
            args=step.planned.args,
            captured=captured if captured is not None else (step.captured or {}),
            outputs=run.outputs,
            fence=run.fence,
            verify=run.plan.verify,
            remaining_s=lambda: ends - self._clock.monotonic(),
            lost=lost,
        )

    def _incident(self, run: Run) -> Incident | None:
        return None if run.incident is None else self._incidents.get(run.incident)

    def _reached(self, run: Run, point: str) -> None:
        self._boundary(run.phase, run.current.action, point)
