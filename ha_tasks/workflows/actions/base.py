"""What most actions have in common: nothing to capture, nothing to check, nothing to undo."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import ClassVar

from ha_tasks.model.action import Takes
from ha_tasks.model.plain import Json
from ha_tasks.ports.action import UNDECLARED, Difference, StepContext


class PlainAction(ABC):
    """Defaults of the verbs of ports/action.py; an action overrides what it has.

    ``takes`` declares its arguments; ``undoes`` is true for an action that has an ``undo`` of its own.
    """

    takes: ClassVar[Takes] = UNDECLARED
    undoes: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        """Sees whether the class, or one between, takes its effect back."""
        cls.undoes = cls.undo is not PlainAction.undo

    def plan(self, ctx: StepContext) -> str | Difference:
        """Its first docstring line, about the incident's instance."""
        said = (inspect.getdoc(type(self)) or type(self).__name__).splitlines()[0].rstrip(".")
        target = ctx.args.get("instance") or ctx.service.name
        return f"{said} ({target})"

    def capture(self, ctx: StepContext) -> Json | None:  # noqa: ARG002 - an action that has to, overrides it
        """Nothing, ever."""
        return None

    def check(self, ctx: StepContext) -> Json | None:  # noqa: ARG002 - as above
        """Never known to be so already: ``do`` is idempotent."""
        return None

    @abstractmethod
    def do(self, ctx: StepContext) -> Json:
        """The effect: the one verb that every action has to have itself."""

    def verify(self, ctx: StepContext) -> None:  # noqa: B027 - most actions need none
        """Nothing beyond what ``do`` has seen itself."""

    def undo(self, ctx: StepContext) -> None:  # noqa: B027 - as above
        """Nothing to take back."""
