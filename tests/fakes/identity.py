"""The store's identity, and a home's memory, in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from ha_tasks.errors import StaleEpoch
from ha_tasks.model.cluster import Cluster
from ha_tasks.ports.identity import Identity


class FakeStoreIdentity:
    """See ports/identity.py. ``fence`` and ``clusters`` are those of the store that it belongs to."""

    def __init__(self, store_id: str, *, fence: Callable[[], int], clusters: dict[str, Cluster]) -> None:
        self.store_id = store_id
        self._fence = fence
        self._clusters = clusters
        self.succeeds: set[str] = set()
        self.strangers: set[str] = set()
        self.moved_to = self.approver = self.held = ""
        self.fence_seen = 0
        self.epochs_seen: dict[str, int] = {}

    def read(self) -> Identity:
        return Identity(
            store_id=self.store_id,
            succeeds=frozenset(self.succeeds),
            strangers=frozenset(self.strangers),
            moved_to=self.moved_to,
            approving=self.approver,
            held=self.held,
            fence=self._fence(),
            epochs={name: cluster.epoch for name, cluster in self._clusters.items()},
            fence_seen=self.fence_seen,
            epochs_seen=dict(self.epochs_seen),
        )

    def witness(self, epochs: Mapping[str, int], fence: int) -> None:
        for cluster, epoch in epochs.items():
            self.epochs_seen[cluster] = max(epoch, self.epochs_seen.get(cluster, 0))
        self.fence_seen = max(fence, self.fence_seen)

    def stranger(self, served: str, actor: str) -> None:
        self.strangers.add(served)

    def hold(self, reason: str) -> None:
        self.held = reason

    def approving(self, actor: str) -> None:
        self.approver = actor

    def seat(self, cluster: Cluster, now: datetime) -> None:
        if cluster.name in self._clusters and self._clusters[cluster.name].epoch >= cluster.epoch:
            raise StaleEpoch(f"{cluster.name} is at epoch {cluster.epoch} or beyond")
        self._clusters[cluster.name] = cluster

    def approved(self, actor: str, now: datetime) -> None:
        self.succeeds |= self.strangers
        self.strangers.clear()
        self.moved_to = self.approver = self.held = ""


class FakeServedStore:
    """See ports/identity.py."""

    def __init__(self, store_id: str | None = None) -> None:
        self.store_id = store_id

    def last(self) -> str | None:
        return self.store_id

    def remember(self, store_id: str) -> None:
        self.store_id = store_id
