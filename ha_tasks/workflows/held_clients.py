"""Clients that a switchover has a pooler hold, and whose run has ended without letting them go."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from ha_tasks.model.platform import Service
from ha_tasks.model.run import TERMINAL, Run, StepState
from ha_tasks.names import ActionName
from ha_tasks.ports.repositories import Journal
from ha_tasks.workflows.cluster_moves import PostgresTools

LOOKED_BACK = timedelta(minutes=10)
"""A pause that stands longer than this after our last one is somebody else's, and is left alone."""


def let_go(tools: PostgresTools, journal: Journal, service: Service) -> bool:
    """Resumes the poolers of the service if a run of ours left them paused; True when it did. Idempotent.

    Called only while no run is active on the service. Raises what ports/pooler.py says.
    """
    pooler = tools.pooler
    if pooler is None or service.pooler is None:
        return False
    mine = [run for run in journal.recent() if run.plan.service == service.name]
    if not left_held(mine, tools.clock.now()) or not pooler.is_paused(service):
        return False
    pooler.resume(service)
    return True


def left_held(runs: Iterable[Run], now: datetime) -> bool:
    """True when the newest of the runs that hold clients has ended lately without letting them go. Pure."""
    newest = next((run for run in runs if _paused(run) is not None), None)
    if newest is None or newest.state not in TERMINAL:
        return False
    lately = newest.ended_at is not None and now - newest.ended_at <= LOOKED_BACK
    return lately and bool(_paused(newest)) and not _resumed(newest)


def _paused(run: Run) -> bool | None:
    """Whether its pause stands as far as the run knows; None: it has no such step."""
    for step in run.steps:
        if step.action == ActionName.PAUSE_POOLER:
            taken_back = step.state is StepState.UNDONE
            needless = step.state is StepState.DONE and not step.output.get("paused")
            return step.begun and not taken_back and not needless
    return None


def _resumed(run: Run) -> bool:
    return any(s.action == ActionName.RESUME_POOLER and s.state is StepState.DONE for s in run.steps)
