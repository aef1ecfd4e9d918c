"""What most actions have in common: nothing to capture, nothing to check, nothing to undo."""

from __future__ import annotations

from ha_tasks.model.plain import Json
from ha_tasks.ports.action import StepContext


class PlainAction:
    """Defaults of the verbs of ports/action.py; an action overrides what it has."""

    def plan(self, ctx: StepContext) -> str:
        """Its first docstring line, about the incident's instance."""
        said = (type(self).__doc__ or "").strip().splitlines()[0].rstrip(".")
        target = ctx.args.get("instance") or ctx.service.name
        return f"{said} ({target})"

    def capture(self, ctx: StepContext) -> Json:  # noqa: ARG002 - an action that has to, overrides it
        """Nothing."""
        return {}

    def check(self, ctx: StepContext) -> Json | None:  # noqa: ARG002 - as above
        """Never known to be so already: ``do`` is idempotent."""
        return None

    def verify(self, ctx: StepContext) -> None:
        """Nothing beyond what ``do`` has seen itself."""

    def undo(self, ctx: StepContext) -> None:
        """Nothing to take back."""
