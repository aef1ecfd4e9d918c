"""Which state store this is, and what was remembered of it: by itself, by the home, by the agents.

Each verb on the store is one transaction and raises StoreUnreachable (retryable).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ha_tasks.model.cluster import Cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What the store says of itself, as of one moment.

    ``succeeds``: ids of stores whose place it took; ``strangers``: ids of stores that homes served before
    and whose place nobody gave it. ``held``: why nothing acts by it, '' when it may. ``fence`` and
    ``epochs``: in force now; ``fence_seen`` and ``epochs_seen``: that were seen higher elsewhere.
    """

    store_id: str
    succeeds: frozenset[str]
    strangers: frozenset[str]
    moved_to: str
    approving: str
    held: str
    fence: int
    epochs: Mapping[str, int]
    fence_seen: int
    epochs_seen: Mapping[str, int]


class StoreIdentity(Protocol):
    """The store's word about itself."""

    def read(self) -> Identity:
        """All of it. The id was given when the store was migrated, and stays."""
        ...

    def witness(self, epochs: Mapping[str, int], fence: int) -> None:
        """Keeps what was seen elsewhere, by cluster. Idempotent; what is kept never goes down."""
        ...

    def stranger(self, served: str, actor: str) -> None:
        """A home that served the store of that id has met this one. Idempotent."""
        ...

    def hold(self, reason: str) -> None:
        """Says for all views why nothing acts by it; '' that it may be acted on. Idempotent."""
        ...

    def approving(self, actor: str) -> None:
        """A person begins to approve it: until ``approved`` nothing acts. Idempotent."""
        ...

    def seat(self, cluster: Cluster, now: datetime) -> None:
        """Writes the cluster's row, whatever stood there. Raises StaleEpoch unless its epoch is higher."""
        ...

    def approved(self, actor: str, now: datetime) -> None:
        """It takes the place of every stranger, and is no longer a copied one. Idempotent."""
        ...


class ServedStore(Protocol):
    """What the home remembers: which store it served."""

    def last(self) -> str | None:
        """Its id; None: this home has served none."""
        ...

    def remember(self, store_id: str) -> None:
        """From now on it is that one; on the disk when this returns. Idempotent."""
        ...
