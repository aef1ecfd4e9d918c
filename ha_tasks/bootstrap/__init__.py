"""Puts the parts together: the only place that knows which driver stands behind which port."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ha_tasks.bootstrap.homes import (
    DEFAULT_HOME,
    INVENTORY_FILE,
    actor_of,
    home_of,
    inventory_path,
    load_inventory,
)
from ha_tasks.bootstrap.system import System, host_agents
from ha_tasks.inventory import Inventory
from ha_tasks.ports.dispatch import Dispatch
from ha_tasks.ports.queues import Queues
from ha_tasks.workflows.facades import BaseRecovery, HighAvailabilityRecoverySystem

__all__ = [
    "DEFAULT_HOME",
    "INVENTORY_FILE",
    "NoDispatch",
    "System",
    "actor_of",
    "assemble",
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
) -> System:
    """One System for this process; without a ``dispatch`` it sends nothing (see NoDispatch)."""
    return System(inventory, dispatch or NoDispatch(), environ)


def queues_of(inventory: Inventory) -> Queues | None:
    """The broker's queues, looked at from outside; None for a broker whose queues cannot be read so."""
    # A third of a second to import, and only those who look at queues need it.
    from ha_tasks.adapters.broker_queues import RedisQueues

    bare = inventory.broker.bare_url
    return RedisQueues(inventory.broker_url()) if bare.startswith(("redis:", "rediss:")) else None


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
