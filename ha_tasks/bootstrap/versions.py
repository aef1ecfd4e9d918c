"""Versions of what services are served from, for one process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ha_tasks.model.platform import ServiceKind
from ha_tasks.recovery.rollback_controller import RollbackController
from ha_tasks.workflows.actions.verify import Path
from ha_tasks.workflows.actions.versions import VersionTools
from ha_tasks.workflows.file_watch import FileWatch

if TYPE_CHECKING:
    from ha_tasks.bootstrap.system import System


def rollback_of(system: System) -> RollbackController:
    """On the parts of that system."""
    return RollbackController(
        versions=system.store.versions, agents=system.agents, clock=system.clock, actor=system.actor
    )


def version_tools_of(system: System, paths: Mapping[ServiceKind, Path]) -> VersionTools:
    """What its actions drive."""
    return VersionTools(rollback=system.rollback, look=system.health.look, paths=paths, clock=system.clock)


def file_watch_of(system: System, held: Callable[[], str | None]) -> FileWatch:
    """For an observer."""
    return FileWatch(
        platform=system.platform,
        rollback=system.rollback,
        versions=system.store.versions,
        judge=system.detection.judge,
        journal=system.store.journal,
        clock=system.clock,
        actor=system.actor,
        held=held,
    )
