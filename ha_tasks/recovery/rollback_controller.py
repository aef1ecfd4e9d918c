"""RollbackController: undoes one done step of a run, by what was captured before it was done."""

from __future__ import annotations

from collections.abc import Mapping

from ha_tasks.errors import HaTasksError
from ha_tasks.model.run import Outcome
from ha_tasks.ports.action import Action, StepContext


class RollbackController:
    """Which step comes next is a rule of the model; this does it."""

    def __init__(self, actions: Mapping[str, Action]) -> None:
        self._actions = actions

    def undo(self, action: str, ctx: StepContext) -> Outcome:
        """Takes the step's effect back. Idempotent, as ``Action.undo`` is."""
        try:
            self._actions[action].undo(ctx)
        except HaTasksError as error:
            return Outcome(ok=False, error=str(error), passing=error.retryable)
        return Outcome(ok=True)
