"""Planned work of one process: where people order switchovers and restarts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ha_tasks.workflows.planned_work import PlannedWork

if TYPE_CHECKING:
    from ha_tasks.bootstrap.system import System


def planned_work_of(system: System) -> PlannedWork:
    """On the parts of that system."""
    return PlannedWork(
        planner=system.planner,
        guards=system.guards,
        orchestrator=system.orchestrator,
        incidents=system.store.incidents,
        journal=system.store.journal,
        ledger=system.store.ledger,
        clock=system.clock,
        held=system.store_watch.held,
        standing=system.revision.standing,
    )
