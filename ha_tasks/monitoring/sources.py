"""Sources: the ports that metrics are read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ha_tasks.model.platform import Platform
from ha_tasks.ports.audit import Audit
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.events import EventCursors
from ha_tasks.ports.identity import StoreIdentity
from ha_tasks.ports.ledger import Ledger
from ha_tasks.ports.limits import Limits
from ha_tasks.ports.queues import Queues
from ha_tasks.ports.repositories import (
    Clusters,
    HealthBook,
    Incidents,
    Journal,
    Observations,
    ReplicationBook,
    ScheduleBook,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the metrics come from.

    ``integrity_due_s``: how old the latest result of a periodic integrity check may be, by check.
    """

    platform: Platform
    ledger: Ledger
    incidents: Incidents
    journal: Journal
    clusters: Clusters
    pictures: ReplicationBook
    health: HealthBook
    observations: Observations
    limits: Limits
    schedule: ScheduleBook
    queues: Queues
    clock: Clock
    audit: Audit
    cursors: EventCursors
    identity: StoreIdentity
    integrity_due_s: Mapping[str, float] = field(default_factory=dict)
    own_actions: tuple[str, ...] = ()
    """Actions of installed packages, as they were when this process began: a closed list."""
