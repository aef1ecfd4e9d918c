"""What a worker has put aside is counted in the ledger: with each heartbeat, and when it ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery.signals import heartbeat_sent, worker_shutdown

from ha_tasks.bootstrap import load_inventory
from ha_tasks.names import Counter, PoisonReason
from ha_tasks.store import Store
from ha_tasks.tasks.quarantine import TALLY


def count_poison() -> None:
    """Connects the signals; the handlers live as long as the process. Idempotent."""
    TALLY.connect(_counted)
    heartbeat_sent.connect(_flush, weak=False, dispatch_uid="ha_tasks.poison")
    worker_shutdown.connect(_flush, weak=False, dispatch_uid="ha_tasks.poison.end")


def _flush(**_: Any) -> None:
    TALLY.flush()


def _counted(found: Mapping[PoisonReason, int]) -> None:
    """Opens the store for it: a prefork parent must not carry an open database across a fork."""
    store = Store(load_inventory().store_url())
    try:
        for reason, number in found.items():
            store.ledger.count(Counter.POISON, {"reason": reason}, number)
    finally:
        store.dispose()
