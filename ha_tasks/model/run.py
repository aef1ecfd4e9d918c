"""A run: a plan on its way through the journal, and the rules of each move.

PENDING -> RUNNING -> VERIFYING -> SUCCEEDED; on failure COMPENSATING -> ROLLED_BACK |
COMPENSATION_FAILED (a person is called); ABORTED by the stop switch between steps. One that waits for a
person is AWAITING_APPROVAL before it is PENDING: nothing is sent, nothing runs, and it holds its scope.
The rules here are pure: the store applies what they return, under the fence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from ha_tasks.model.confidential import without_credentials
from ha_tasks.model.plain import Json
from ha_tasks.model.playbook import Acceptance, Plan, PlannedStep, UndoPolicy
from ha_tasks.names import ActionName


class RunState(StrEnum):
    """See the module's first lines."""

    AWAITING_APPROVAL = "awaiting_approval"
    PENDING = "pending"
    RUNNING = "running"
    VERIFYING = "verifying"
    COMPENSATING = "compensating"
    SUCCEEDED = "succeeded"
    ROLLED_BACK = "rolled_back"
    COMPENSATION_FAILED = "compensation_failed"
    ABORTED = "aborted"


GAVE_WAY = "gave way to the failover of"
"""How the error of a run begins that was ended for one that cannot wait; its failure may well stand."""
TERMINAL = frozenset(
    {RunState.SUCCEEDED, RunState.ROLLED_BACK, RunState.COMPENSATION_FAILED, RunState.ABORTED}
)


class StepState(StrEnum):
    """UNKNOWN: its executor died; ``check()`` decides before anything is run again."""

    READY = "ready"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"
    UNDONE = "undone"
    KEPT = "kept"
    """A compensation left its effect in place on purpose."""
    UNDO_FAILED = "undo_failed"


class Phase(StrEnum):
    """Which way a step is being taken."""

    DO = "do"
    UNDO = "undo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A planned step and what became of it. ``attempts`` counts the current phase's claims.

    ``output`` of one that runs says how far it is (``model/progress.py``).
    """

    planned: PlannedStep
    state: StepState = StepState.READY
    attempts: int = 0
    captured: Json | None = None
    output: Json = field(default_factory=dict)
    error: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def no(self) -> int:
        """Its number in the plan, from 1."""
        return self.planned.no

    @property
    def action(self) -> str:
        """The action that it names: an ActionName, or one's own."""
        return self.planned.action

    @property
    def begun(self) -> bool:
        """True once an executor has taken it up, also while it waits (READY) for its next attempt."""
        return self.state is not StepState.READY or self.attempts > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """``fence`` grows with each claim, over all runs; ``position`` is the step to take next."""

    id: int
    incident: int | None
    plan: Plan
    state: RunState
    phase: Phase
    position: int
    fence: int
    steps: tuple[Step, ...]
    mode: str
    requested_by: str
    reason: str
    created_at: datetime
    updated_at: datetime
    lease_owner: str | None = None
    lease_until: datetime | None = None
    ended_at: datetime | None = None
    error: str = ""
    revision: int | None = None
    """Revision of the inventory under which it was planned."""
    approval_until: datetime | None = None
    approved_by: str | None = None
    deadline: datetime | None = None

    def step(self, no: int) -> Step:
        """The step of that number; KeyError when there is none."""
        if not 1 <= no <= len(self.steps):
            raise KeyError(no)
        return self.steps[no - 1]

    @property
    def current(self) -> Step:
        """The step at ``position``."""
        return self.step(self.position)

    @property
    def outputs(self) -> Mapping[str, Json]:
        """Outputs of the steps that are done, by step id."""
        return {s.planned.id: s.output for s in self.steps if s.state is StepState.DONE}

    def with_step(self, step: Step) -> Run:
        """The same run with that step in its place."""
        steps = list(self.steps)
        steps[step.no - 1] = step
        return replace(self, steps=tuple(steps))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt ended. ``passing``: the same attempt may succeed later.

    The error is kept and shown, so it bears no login, whatever a driver or somebody's own action said.
    """

    ok: bool
    output: Json = field(default_factory=dict)
    error: str = ""
    passing: bool = False
    retry_after_s: float = 0.0

    def __post_init__(self) -> None:
        """Frozen, so its own way round that is taken once."""
        object.__setattr__(self, "error", without_credentials(self.error))


def after(run: Run, outcome: Outcome, now: datetime) -> Run:
    """The run after an attempt at its current step in its current phase. Pure."""
    if run.phase is Phase.UNDO:
        return _after_undo(run, outcome, now)
    step = run.current
    if outcome.ok:
        done = replace(step, state=StepState.DONE, output=outcome.output, error="", ended_at=now)
        return _forward(run.with_step(done), now)
    if outcome.passing and step.attempts < step.planned.attempts:
        waiting = replace(step, state=StepState.READY, error=outcome.error)
        return replace(run.with_step(waiting), updated_at=now)
    failed = replace(step, state=StepState.FAILED, error=outcome.error, ended_at=now)
    return turn_round(run.with_step(failed), outcome.error, now)


def _forward(run: Run, now: datetime) -> Run:
    if run.position == len(run.steps):
        return _ended(run, RunState.SUCCEEDED, now)
    position = run.position + 1
    return replace(run, position=position, state=_state_at(run.step(position)), updated_at=now)


def _state_at(step: Step) -> RunState:
    """The state of a run that goes forward and stands at ``step``."""
    return RunState.VERIFYING if step.action is ActionName.VERIFY_SERVICE else RunState.RUNNING


def turn_round(run: Run, error: str, now: datetime) -> Run:
    """The run after a step failed for good: back, unless that would be blind.

    A step past whose beginning there is no way back, begun or done, means that nothing is undone:
    the run ends as COMPENSATION_FAILED and a person is called. A step that failed, or that was begun
    and has no outcome, may have had part of its effect, so it is compensated too.
    A run that is on its way back already stays as it is.
    """
    if run.phase is Phase.UNDO:
        return run
    run = run.with_step(_as_left(run.current))
    if passed_no_return(run):
        text = f"{error}; past the point of no return, so nothing was undone"
        return _ended(replace(run, error=text), RunState.COMPENSATION_FAILED, now)
    turned = replace(run, phase=Phase.UNDO, state=RunState.COMPENSATING, error=error)
    return _backward(turned, run.position, now)


def _as_left(step: Step) -> Step:
    """A step that is left between its beginning and its outcome: nobody knows what it did."""
    left = step.begun and step.state in (StepState.READY, StepState.RUNNING)
    return replace(step, state=StepState.UNKNOWN) if left else step


def passed_no_return(run: Run) -> bool:
    """True when a step marked as point of no return has been begun, even if it waits for a retry."""
    return any(s.planned.point_of_no_return and s.begun for s in run.steps)


def _backward(run: Run, start: int, now: datetime) -> Run:
    """Moves to the next step at or before ``start`` that must be undone; marks what is kept."""
    for no in range(start, 0, -1):
        step = run.step(no)
        if step.state not in (StepState.DONE, StepState.FAILED, StepState.UNKNOWN):
            continue
        if step.planned.undo is UndoPolicy.RUN:
            ready = replace(step, attempts=0)
            return replace(run.with_step(ready), position=no, updated_at=now)
        run = run.with_step(replace(step, state=StepState.KEPT))
    return _ended(run, RunState.ROLLED_BACK, now)


def _after_undo(run: Run, outcome: Outcome, now: datetime) -> Run:
    step = run.current
    if outcome.ok:
        undone = replace(step, state=StepState.UNDONE, ended_at=step.ended_at or now)
        return _backward(run.with_step(undone), run.position - 1, now)
    if step.attempts < step.planned.attempts:
        return replace(run.with_step(replace(step, error=outcome.error)), updated_at=now)
    failed = replace(step, state=StepState.UNDO_FAILED, error=outcome.error, ended_at=now)
    text = f"{run.error}; undoing {step.planned.id} failed: {outcome.error}"
    return _ended(replace(run.with_step(failed), error=text), RunState.COMPENSATION_FAILED, now)


def _ended(run: Run, state: RunState, now: datetime) -> Run:
    return replace(run, state=state, ended_at=now, updated_at=now)


def aborted(run: Run, now: datetime, why: str = "stopped by the stop switch") -> Run:
    """The claimed run ended between two steps. What is done stays: a person decides."""
    waiting = replace(run.current, state=StepState.READY, attempts=run.current.attempts - 1)
    text = f"{why} before {waiting.planned.id}"
    return _ended(replace(run.with_step(waiting), error=text), RunState.ABORTED, now)


def approved(run: Run, by: str, now: datetime, accepts: Acceptance | None = None) -> Run:
    """The run after a person said yes: it may begin. ``accepts``: what may be lost for it."""
    plan = run.plan if accepts is None else replace(run.plan, accepts=accepts)
    return replace(run, plan=plan, state=RunState.PENDING, approved_by=by, updated_at=now)


def called_off(run: Run, why: str, now: datetime) -> Run:
    """The run ended before anybody took it up."""
    return _ended(replace(run, error=why), RunState.ABORTED, now)


def leaves_nothing(run: Run) -> bool:
    """True for a run on its way that could end at any moment: what it did stays on purpose."""
    begun = [step for step in run.steps if step.begun]
    under_way = run.state in (RunState.PENDING, RunState.RUNNING, RunState.VERIFYING)
    return under_way and all(step.planned.undo is UndoPolicy.KEEP for step in begun)


def broken_off(run: Run, now: datetime, why: str) -> Run:
    """The run ended wherever it was. Whether the step that was being taken had its effect is not known."""
    step = run.current
    if step.state is StepState.RUNNING:
        run = run.with_step(replace(step, state=StepState.UNKNOWN, error=why, ended_at=now))
    return replace(_ended(replace(run, error=why), RunState.ABORTED, now), lease_owner=None, lease_until=None)


def first_claim(run: Run) -> bool:
    """True for a run as its first executor has just claimed it: nothing of it was ever begun."""
    return run.phase is Phase.DO and run.position == 1 and run.current.attempts == 1


def overdue(run: Run, now: datetime) -> str | None:
    """Why a run that nobody has begun is not to be begun any more; None when it still may be."""
    waits = run.state is RunState.AWAITING_APPROVAL
    if waits and run.approval_until is not None and run.approval_until <= now:
        return f"nobody approved it until {run.approval_until:%Y-%m-%d %H:%M:%S} UTC"
    if run.state in TERMINAL or run.deadline is None or run.deadline > now:
        return None
    return f"its deadline ({run.deadline:%Y-%m-%d %H:%M:%S} UTC) passed before it was begun"


def claimed(run: Run, now: datetime) -> Run:
    """The run as an executor takes it up: its step RUNNING (UNKNOWN when it was begun before)."""
    step = run.current
    if run.phase is Phase.DO:
        begun = step.state in (StepState.RUNNING, StepState.UNKNOWN)
        state = StepState.UNKNOWN if begun else StepState.RUNNING
        started = step.started_at or now
        step = replace(step, state=state, attempts=step.attempts + 1, started_at=started)
    else:
        step = replace(step, attempts=step.attempts + 1)
    state_of_run = _state_at(step) if run.state is RunState.PENDING else run.state
    return replace(run.with_step(step), state=state_of_run, updated_at=now)


def exhausted(run: Run) -> bool:
    """True when the current step was claimed more often than its plan allows.

    A step whose executor dies each time must end the run, not loop for ever; deaths get three
    claims beyond the attempts that the plan grants.
    """
    return run.current.attempts > run.current.planned.attempts + 3
