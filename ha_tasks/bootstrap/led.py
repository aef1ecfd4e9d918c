"""What there is for clusters that others lead, put together."""

from __future__ import annotations

from dataclasses import dataclass

from ha_tasks.adapters.patroni import PatroniManager
from ha_tasks.inventory import Inventory
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.cluster_manager import ClusterManager
from ha_tasks.store import Store
from ha_tasks.workflows.led_switchover import LedSwitchover
from ha_tasks.workflows.led_watch import LedWatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Led:
    """``manager`` is asked, ``watch`` opens and closes incidents, ``switchover`` has the manager do one."""

    manager: ClusterManager
    watch: LedWatch
    switchover: LedSwitchover


def led_by_others(inventory: Inventory, store: Store, *, clock: Clock, actor: str) -> Led:
    """Connects to nothing yet."""
    manager = PatroniManager(password=inventory.patroni_password, clock=clock)
    watch = LedWatch(
        platform=inventory.platform,
        observations=store.observations,
        incidents=store.incidents,
        ledger=store.ledger,
        clock=clock,
        actor=actor,
    )
    switchover = LedSwitchover(manager=manager, audit=store.audit, clock=clock)
    return Led(manager=manager, watch=watch, switchover=switchover)
