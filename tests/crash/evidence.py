"""What became of a run, by the evidence of the resources that it changed; the journal must agree."""

from __future__ import annotations

from ha_tasks.model.run import Run, RunState, StepState
from tests.crash.actions import register_in
from tests.crash.cases import FORWARD
from tests.crash.rig import GRANTS, Rig

UNDONE = [*[StepState.UNDONE] * len(GRANTS), StepState.KEPT, StepState.READY]


def wrong_end(rig: Rig, number: int, playbook: str) -> str:
    """Empty when it ended right and every effect was had exactly once."""
    run = rig.run(number)
    faults = _forward(rig, run) if playbook == FORWARD else _turned(rig, run)
    fences = [a.fence for a in rig.system.store.journal.attempts(number)]
    if fences != sorted(set(fences)):
        faults.append(f"its fences do not grow: {fences}")
    return "; ".join([*faults, told(rig, number)]) if faults else ""


def _forward(rig: Rig, run: Run) -> list[str]:
    faults = []
    if run.state is not RunState.SUCCEEDED or {s.state for s in run.steps} != {StepState.DONE}:
        faults.append("it did not succeed")
    restarts = rig.restarts(f"run-{run.id}-step-3")
    if restarts != 1:
        faults.append(f"web1 was restarted {restarts} times")
    return faults


def _turned(rig: Rig, run: Run) -> list[str]:
    faults = []
    if run.state is not RunState.ROLLED_BACK or [s.state for s in run.steps] != UNDONE:
        faults.append("it was not rolled back")
    register = register_in(rig.registers, run.id)
    right = [("grant", g) for g in GRANTS] + [("revoke", g) for g in reversed(GRANTS)]
    if register.deeds != right or register.standing:
        faults.append(f"not once each, last first: {register.deeds}")
    return faults


def told(rig: Rig, number: int) -> str:
    """Where the run stands and how it came there."""
    run = rig.run(number)
    lines = [f"run {run.id} {run.state} at step {run.position} {run.phase}: {run.error}"]
    for a in rig.system.store.journal.attempts(run.id):
        what = f"{a.started_at:%H:%M:%S.%f} {a.step} {a.phase} fence {a.fence}"
        lines.append(f"  {what} {a.worker}: {a.outcome} {a.error}")
    return "\n".join(lines)
