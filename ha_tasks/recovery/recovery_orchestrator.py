"""RecoveryOrchestrator: takes a run one step further, under a fenced lease.

claim (fence + 1) -> check whether it is already so -> capture what undo needs -> do -> verify ->
settle: the outcome and the message for the next step, in one transaction -> send it.
Lost, doubled and reordered messages, dead and paused executors are all harmless: the journal says
what is next, the lease says whose it is, and a stale fence can write nothing.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from ha_tasks.errors import ActionFailed, BrokerUnreachable, HaTasksError, StaleFence, StoreUnreachable
from ha_tasks.model.incident import Incident
from ha_tasks.model.message import Message
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Platform
from ha_tasks.model.progress import Progress
from ha_tasks.model.revision import UNREVISED, Standing
from ha_tasks.model.run import (
    TERMINAL,
    Outcome,
    Phase,
    Run,
    RunState,
    StepState,
    aborted,
    after,
    exhausted,
    first_claim,
    overdue,
)
from ha_tasks.ports.action import Action, StepContext
from ha_tasks.ports.boundary import Boundary, nobody
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.dispatch import Dispatch
from ha_tasks.ports.lease import LeaseKeeper
from ha_tasks.ports.repositories import Incidents, Journal
from ha_tasks.recovery.rollback_controller import RollbackController

log = logging.getLogger(__name__)

RETRY_AFTER = timedelta(seconds=0.5)
UNSERVED_AFTER = timedelta(seconds=10)
"""Long enough for a worker that has the action to be restarted."""


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
    """Any number of these, in any process, may be told to take the same step.

    ``stopped`` is asked whether the stop switch holds a service.
    """

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
        stopped: Callable[[str], bool] = lambda _: False,
        held: Callable[[], str | None] = lambda: None,
        boundary: Boundary = nobody,
        standing: Callable[[], Standing] = lambda: UNREVISED,
        under: Callable[[int], RecoveryOrchestrator] | None = None,
        ticked: Callable[[Message], None] | None = None,
    ) -> None:
        """``standing``: where this process stands among the revisions of the inventory; ``under``: whoever
        takes steps as of a revision: a run keeps that under which it was planned. ``ticked`` is told what the
        broker took; None: it is written down at once.
        """
        self._platform = platform
        self._journal = journal
        self._incidents = incidents
        self._actions = actions
        self._clock = clock
        self._dispatch = dispatch
        self._leases = leases
        self._owner = owner
        self._settled = settled
        self._stopped = stopped
        self._held = held
        self._boundary = boundary
        self._standing = standing
        self._under = under
        self._ticked = ticked or self._tick

    def advance(self, run_id: int, step: int, phase: Phase) -> Advance:
        """Takes that step of the run, if it is still to be taken."""
        held = self._held()
        if held is not None:
            # Not even a compensation: a store that is not to be trusted knows nothing about now.
            return Advance(taken=False, error=held)
        standing = self._standing()
        if standing.problem is not None and not self._goes_on_with(run_id, standing):
            # Whoever has the applied revision is sent the step by the sweeper.
            return Advance(taken=False, error=standing.problem)
        self._boundary(phase, str(step), "offered")
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
        if self._under is not None and run.revision not in (None, standing.own):
            return self._under(run.revision).carry_on(run)
        return self.carry_on(run)

    def _goes_on_with(self, run_id: int, standing: Standing) -> bool:
        """Asked only where another revision is applied. A run that cannot be found is nobody's here."""
        try:
            return standing.may_take(self._journal.get(run_id).revision)
        except KeyError:
            return False

    def carry_on(self, run: Run) -> Advance:
        """Takes the step of a run that this process has just claimed."""
        self._reached(run, "claimed")
        why = self._not_to_be_begun(run)
        try:
            if why is not None:
                return self._abort(run, why)
            with self._leases.keep(run) as lost:
                outcome = self._attempt(run, lost)
            self._reached(run, "done")
            ended = self._settle(run, outcome)
        except StaleFence as error:
            log.warning("run %s, step %s: a late write was refused: %s", run.id, run.position, error)
            return Advance(taken=False, error=str(error))
        return Advance(taken=True, run=ended, error=outcome.error)

    def drive(self, run_id: int, deadline: datetime) -> Run:
        """Takes step after step in this process, until the run has ended, waits for a person, or it is late.

        Works beside other executors: what they hold is waited for, what they lost is taken over.
        """
        while True:
            run = self._journal.get(run_id)
            waits = run.state is RunState.AWAITING_APPROVAL
            if run.state in TERMINAL or waits or self._clock.now() >= deadline:
                return run
            if not self.advance(run.id, run.position, run.phase).taken:
                self._clock.pause(0.1)

    def send(self, message: Message) -> None:
        """Hands a message to the broker; if it cannot be had, the outbox keeps it for the sweeper."""
        try:
            self._dispatch.send(message)
        except BrokerUnreachable:
            return
        self._ticked(message)

    def _tick(self, message: Message) -> None:
        self._journal.sent([message], self._clock.now())

    def sweep(self) -> int:
        """Sends again what was lost: unsent messages, steps whose executor died. Answers how many."""
        messages = self._journal.sweep(self._clock.now(), unsent_after_s=0.5, silent_after_s=1.5)
        for message in messages:
            if not self._told_nobody_has_it(message):
                self.send(message)
        return len(messages)

    def _told_nobody_has_it(self, message: Message) -> bool:
        """Takes a step whose action is not here, once nobody who has it has come for it in UNSERVED_AFTER.

        No worker serves the task then, and the run would wait for ever. Taken here it fails, and says what
        to install.
        """
        run = self._journal.get(message.kwargs["run"])
        if run.current.action in self._actions or self._clock.now() - run.updated_at < UNSERVED_AFTER:
            return False
        return self.advance(run.id, run.position, run.phase).taken

    def _not_to_be_begun(self, run: Run) -> str | None:
        """Why the claimed step is left. Only what was not begun can be; a compensation under way goes on."""
        if run.phase is not Phase.DO or run.current.state is not StepState.RUNNING:
            return None
        if self._stopped(run.plan.service):
            return "stopped by the stop switch"
        return overdue(run, self._clock.now()) if first_claim(run) else None

    def _abort(self, run: Run, why: str) -> Advance:
        ended = aborted(run, self._clock.now(), why)
        self._journal.settle(run, ended, run.fence, outcome="aborted", error=ended.error, due=None)
        self._settled(run, ended)
        return Advance(taken=True, run=ended, error=ended.error)

    def _attempt(self, run: Run, lost: Callable[[], bool]) -> Outcome:
        step = run.current
        if exhausted(run):
            return Outcome(ok=False, error=f"its executor died {step.attempts - 1} times")
        try:
            ctx = self._context(run, lost)
            if run.phase is Phase.UNDO:
                self._reached(run, "captured")
                return RollbackController.undo(self._actions[step.action], ctx)
            return self._do(run, self._actions[step.action], ctx)
        except HaTasksError as error:
            if isinstance(error, StaleFence):
                raise
            retry = RETRY_AFTER.total_seconds()
            return Outcome(ok=False, error=str(error), passing=error.retryable, retry_after_s=retry)
        except Exception as error:  # noqa: BLE001 - a mistake, or a time limit: the run goes on as planned
            # Without the error as Python words it, which may bear a login.
            outcome = Outcome(ok=False, error=f"{type(error).__name__}: {error}")
            where = "".join(traceback.format_tb(error.__traceback__))
            log.error("run %s, step %s: %s\n%s", run.id, step.planned.id, outcome.error, where)
            return outcome

    def _do(self, run: Run, action: Action, ctx: StepContext) -> Outcome:
        step = run.current
        if step.captured is None:
            captured = action.capture(ctx)
            if captured is not None:
                self._journal.capture(run.id, run.fence, step.no, captured)
                ctx = self._context(run, ctx.lost, captured)
        self._reached(run, "captured")
        begun_before = step.state is StepState.UNKNOWN or step.attempts > 1
        output = action.check(ctx) if begun_before else None
        if output is None:
            output = action.do(ctx)
        self._reached(run, "applied")
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
        step, service = run.current, self._platform.services.get(run.plan.service)
        if service is None:
            raise ActionFailed(f"{run.plan.service} is not in the inventory any more")
        ends = self._clock.monotonic() + step.planned.timeout_s
        return StepContext(
            run=run.id,
            step=step.no,
            key=f"run-{run.id}-step-{step.no}",
            service=service,
            incident=self._incident(run),
            args=step.planned.args,
            captured=captured if captured is not None else (step.captured or {}),
            outputs=run.outputs,
            fence=run.fence,
            verify=run.plan.verify,
            remaining_s=lambda: ends - self._clock.monotonic(),
            lost=lost,
            provider=step.planned.provider,
            action=step.action,
            accepts=run.plan.accepts,
            tell=lambda progress: self._tell(run, progress),
        )

    def _tell(self, run: Run, progress: Progress) -> None:
        """The work goes on without it: a store that is away costs the word, not the step."""
        try:
            self._journal.tell(run.id, run.fence, run.position, progress.to_json())
        except StoreUnreachable as error:
            log.info("run %s, step %s: %s is not written down: %s", run.id, run.position, progress, error)

    def _incident(self, run: Run) -> Incident | None:
        return None if run.incident is None else self._incidents.get(run.incident)

    def _reached(self, run: Run, point: str) -> None:
        self._boundary(run.phase, run.current.action, point)
