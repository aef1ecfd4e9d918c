"""An action whose effects can be counted, and that fails as it is told to."""

from __future__ import annotations

from ha_tasks.model.plain import Json
from ha_tasks.ports.action import StepContext


class FakeAction:
    """See ports/action.py. ``fail`` holds an error per call of ``do``; None or the end: it works."""

    def __init__(self, log: list[str], name: str) -> None:
        self.log = log
        self.name = name
        self.fail: list[Exception | None] = []
        self.fail_undo: list[Exception | None] = []
        self.already: Json | None = None
        self.captured: list[Json] = []

    def plan(self, ctx: StepContext) -> str:
        return self.name

    def capture(self, ctx: StepContext) -> Json:
        return {"before": self.name}

    def check(self, ctx: StepContext) -> Json | None:
        return self.already

    def do(self, ctx: StepContext) -> Json:
        self.captured.append(dict(ctx.captured))
        error = self.fail.pop(0) if self.fail else None
        if error is not None:
            raise error
        self.log.append(f"do {self.name}")
        return {"done": self.name}

    def verify(self, ctx: StepContext) -> None:
        return

    def undo(self, ctx: StepContext) -> None:
        error = self.fail_undo.pop(0) if self.fail_undo else None
        if error is not None:
            raise error
        self.log.append(f"undo {self.name}")
