"""What the engine is measured with: an action that does nothing, and the plain task beside it.

``celery -A tests.benchmarks.engine_app worker``. The action comes by entry point, as one's own actions do.
"""

from __future__ import annotations

import os

from ha_tasks.model.plain import Json
from ha_tasks.ports.action import ActionTools, StepContext

NOOP = "bench.noop"
PLAIN = "bench.plain"
ENTRY_POINTS = f"[ha_tasks.actions]\n{NOOP} = tests.benchmarks.engine_app:noop\n"


class Noop:
    """Changes nothing, and has nothing to capture, as most of the shipped actions."""

    def plan(self, ctx: StepContext) -> str:
        return "nothing"

    def capture(self, ctx: StepContext) -> Json | None:
        return None

    def check(self, ctx: StepContext) -> Json | None:
        return None

    def do(self, ctx: StepContext) -> Json:
        return {}

    def verify(self, ctx: StepContext) -> None:
        """Nothing is to be seen."""

    def undo(self, ctx: StepContext) -> None:
        """Nothing is to be undone."""


def noop(tools: ActionTools) -> Noop:
    """The factory that the entry point names."""
    return Noop()


if "HA_TASKS_HOME" in os.environ:
    from workers.app import app

    @app.task(name=PLAIN, shared=False)
    def plain() -> None:
        """A step of a plain chain."""
