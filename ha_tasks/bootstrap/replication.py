"""The watch over replication, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ha_tasks.workflows.replication_watch import ReplicationWatch

if TYPE_CHECKING:
    from ha_tasks.bootstrap.system import System


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
    )
