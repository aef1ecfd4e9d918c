"""A message in the outbox: ids, a fence and plain JSON, never a secret."""

from __future__ import annotations

from dataclasses import dataclass

from ha_tasks.model.plain import Json
from ha_tasks.model.run import Phase, Run
from ha_tasks.names import Queue, step_task, undo_task


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """``id`` is the outbox row that is ticked off once the broker has it; None: not from the outbox."""

    task: str
    queue: str
    kwargs: Json
    id: int | None = None


def message_for(run: Run) -> Message:
    """The message that has the run's current step taken, named for what it does."""
    step = run.current
    name = step_task(step.action) if run.phase is Phase.DO else undo_task(step.action)
    return Message(
        task=name,
        queue=Queue.RECOVERY,
        kwargs={
            "v": 1,
            "run": run.id,
            "step": step.no,
            "service": run.plan.service,
            "playbook": run.plan.playbook,
            "fence": run.fence,
        },
    )
