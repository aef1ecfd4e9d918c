"""The watch over replication, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ha_tasks.adapters.redis_control import RedisInfo
from ha_tasks.disaster_recovery.data_replication import DataReplication
from ha_tasks.workflows.abandoned_slots import AbandonedSlots
from ha_tasks.workflows.replication_watch import ReplicationWatch

if TYPE_CHECKING:
    from ha_tasks.bootstrap.system import System


def data_replication_of(system: System) -> DataReplication:
    """Asks every server who streams, who should."""
    return DataReplication(
        control=system.control,
        clusters=system.store.clusters,
        agents=system.agents,
        redis=RedisInfo(system.inventory.secret_for),
    )


def replication_watch_of(system: System) -> ReplicationWatch:
    """Keeps the latest picture of each cluster, and tells a person of what lasts."""
    return ReplicationWatch(
        replication=system.replication,
        book=system.store.replication,
        incidents=system.store.incidents,
        journal=system.store.journal,
        ledger=system.store.ledger,
        clock=system.clock,
        actor=system.actor,
        drop_slot=abandoned_slots_of(system).drop,
    )


def abandoned_slots_of(system: System) -> AbandonedSlots:
    """Drops what nodes left behind that are in the inventory no more."""

    def held() -> str | None:
        return system.store_watch.held() or system.revision.problem()

    return AbandonedSlots(
        revisions=system.store.revisions,
        clusters=system.store.clusters,
        agents=system.agents,
        journal=system.store.journal,
        clock=system.clock,
        stopped=system.is_stopped,
        held=held,
    )
