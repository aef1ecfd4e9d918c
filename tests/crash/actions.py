"""Own actions of the trials, found by entry point as anybody's are: grants in a register, and a failure."""

from __future__ import annotations

import os
from pathlib import Path

from ha_tasks.errors import ActionFailed, VerificationFailed
from ha_tasks.model.plain import Json
from ha_tasks.ports.action import StepContext
from ha_tasks.workflows.actions.base import PlainAction
from tests.crash.register import Register

DIRECTORY = "HA_TASKS_TRIAL_REGISTERS"
"""Environment: where the registers are; each run has its own, ``run-<number>``."""


def register_in(directory: Path, run: int) -> Register:
    return Register(directory, f"run-{run}")


def register_of(run: int) -> Register:
    return register_in(Path(os.environ[DIRECTORY]), run)


class Grant(PlainAction):
    """Grants what its argument says."""

    def capture(self, ctx: StepContext) -> Json:
        return {"stood": register_of(ctx.run).holds(ctx.key)}

    def check(self, ctx: StepContext) -> Json | None:
        return {"granted": True} if register_of(ctx.run).holds(ctx.key) else None

    def do(self, ctx: StepContext) -> Json:
        register_of(ctx.run).grant(ctx.key, ctx.args["value"], ctx.fence)
        return {"granted": True}

    def verify(self, ctx: StepContext) -> None:
        if not register_of(ctx.run).holds(ctx.key):
            raise VerificationFailed(f"{ctx.args['value']} is not granted")

    def undo(self, ctx: StepContext) -> None:
        register_of(ctx.run).revoke(ctx.key, ctx.args["value"], ctx.fence)


class Break(PlainAction):
    """Fails for good."""

    def do(self, ctx: StepContext) -> Json:
        raise ActionFailed(f"run {ctx.run} was to fail here")


def grant(_: object) -> Grant:
    """Entry points ``trial.first``, ``trial.second``, ``trial.third``: one name per boundary."""
    return Grant()


def breaking(_: object) -> Break:
    """Entry point ``trial.break``."""
    return Break()
