"""Puts the parts together: the only place that knows which driver stands behind which port."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ha_tasks.bootstrap.agents import host_agents
from ha_tasks.bootstrap.health import checkup_of
from ha_tasks.bootstrap.homes import (
    DEFAULT_HOME,
    INVENTORY_FILE,
    actor_of,
    home_of,
    inventory_path,
    load_inventory,
)
from ha_tasks.bootstrap.system import System
from ha_tasks.inventory import Inventory
from ha_tasks.ports.dispatch import Dispatch
from ha_tasks.ports.queues import DeadLetters, Queues
from ha_tasks.workflows.facades import (
    BaseRecovery,
    ComprehensiveHealthMonitor,
    HighAvailabilityRecoverySystem,
)
from ha_tasks.workflows.system_health import BaseHealth

__all__ = [
    "DEFAULT_HOME",
    "INVENTORY_FILE",
    "NoDispatch",
    "System",
    "actor_of",
    "assemble",
    "dead_letters_of",
    "health_system",
    "home_of",
    "host_agents",
    "inventory_path",
    "load_inventory",
    "queues_of",
    "recovery_system",
]


class NoDispatch:
    """Sends nothing: whoever drives runs in its own process needs no broker; the outbox keeps the rest."""

    def send(self, message: object) -> None:
        """Leaves the message to the sweeper."""


def assemble(
    inventory: Inventory,
    *,
    dispatch: Dispatch | None = None,
    environ: Mapping[str, str] = os.environ,
    lasting: bool = False,
) -> System:
    """One System for this process; without a ``dispatch`` it sends nothing (see NoDispatch).

    ``lasting``: the process lives on, and may write down later that a message was sent.
    """
    return System(inventory, dispatch or NoDispatch(), environ, lasting)


def queues_of(inventory: Inventory) -> Queues:
    """The broker's queues, looked at from outside."""
    # A third of a second to import, and only those who look at queues need it.
    from ha_tasks.adapters.broker_queues import queues_at

    return queues_at(inventory.broker_url())


def dead_letters_of(inventory: Inventory) -> DeadLetters:
    """What was put aside on the broker."""
    from ha_tasks.adapters.dead_letters import dead_letters_at

    return dead_letters_at(inventory.broker_url())


def recovery_system(
    home: str | Path | None = None, base: BaseRecovery | None = None
) -> HighAvailabilityRecoverySystem:
    """The design document's recovery system on the inventory of that home, in this process."""
    system = assemble(load_inventory(home))
    return HighAvailabilityRecoverySystem(
        failure_detector=system.detector,
        recovery_orchestrator=system.orchestrator,
        detect_and_recover=system.detect_and_recover,
        base=base,
    )


def health_system(
    home: str | Path | None = None, base: BaseHealth | None = None
) -> ComprehensiveHealthMonitor:
    """The design document's health monitor on the inventory of that home, in this process."""
    system = assemble(load_inventory(home))
    monitor = system.monitor_system_health
    return ComprehensiveHealthMonitor(checkup=checkup_of(system), monitor=monitor, base=base)
