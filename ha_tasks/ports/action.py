"""An action: what a playbook's step does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ha_tasks.model.incident import Incident
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Service
from ha_tasks.model.playbook import VerifySettings


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """What an action is given. ``fence`` is this claim's; ``key`` is the same for every attempt.

    ``outputs`` are those of the steps before, by step id. ``remaining_s`` says how long it may still take;
    ``lost`` is true once the lease could not be renewed: a long action must then stop.
    """

    run: int
    step: int
    key: str
    service: Service
    incident: Incident | None
    args: Json
    captured: Json
    outputs: Mapping[str, Json]
    fence: int
    verify: VerifySettings
    remaining_s: Callable[[], float]
    lost: Callable[[], bool]


class Action(Protocol):
    """All verbs but ``do`` and ``undo`` only read. A raised error whose class is ``retryable`` passes."""

    def plan(self, ctx: StepContext) -> str:
        """In one line, what ``do`` would change now."""
        ...

    def capture(self, ctx: StepContext) -> Json:
        """What ``undo`` will need; stored in the journal before ``do`` begins."""
        ...

    def check(self, ctx: StepContext) -> Json | None:
        """The output, when it is already so (``do`` is left out then); else None."""
        ...

    def do(self, ctx: StepContext) -> Json:
        """The effect, idempotent or fenced; answers the step's output."""
        ...

    def verify(self, ctx: StepContext) -> None:
        """Raises VerificationFailed, or a retryable error, unless the effect is there."""
        ...

    def undo(self, ctx: StepContext) -> None:
        """Takes the effect back by ``ctx.captured``; idempotent, also when ``do`` never began."""
        ...
