"""An incident: one failure of one thing, from the first suspicion to its end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from ha_tasks.model.plain import Facts
from ha_tasks.model.probe import Target


class IncidentKind(StrEnum):
    """What failed, or what a person has ordered; playbooks match on it."""

    INSTANCE_DOWN = "instance_down"
    PRIMARY_DOWN = "primary_down"
    STANDBY_DOWN = "standby_down"
    SYNC_MEMBER_SILENT = "sync_member_silent"
    """A member of the synchronous set receives nothing: it could confirm no revocation either."""
    REPLICATION_FAULT = "replication_fault"
    """Something about a PostgreSQL cluster that serves, and would not after the next failure."""
    COMMITS_HANG = "commits_hang"
    """The primary is well, and nobody of its synchronous set acknowledges: reads are served, writes wait."""
    SWITCHOVER_ORDERED = "switchover_ordered"
    """No failure: its instance is the standby that is to take over."""
    RESTART_ORDERED = "restart_ordered"
    """No failure: its instance is the standby that is to be restarted."""
    VERSION_ORDERED = "version_ordered"
    """No failure: its instance is the version (like v7) that a service is to be served from."""
    # of clusters that another manager leads: told, never recovered here
    NO_LEADER = "no_leader"
    MANAGER_PAUSED = "manager_paused"
    MANAGER_SILENT = "manager_silent"
    MEMBER_NOT_STREAMING = "member_not_streaming"


LED_BY_OTHERS = frozenset(
    {
        IncidentKind.NO_LEADER,
        IncidentKind.MANAGER_PAUSED,
        IncidentKind.MANAGER_SILENT,
        IncidentKind.MEMBER_NOT_STREAMING,
    }
)
"""Kinds that come from the word of another manager."""
TOLD = LED_BY_OTHERS | {IncidentKind.REPLICATION_FAULT, IncidentKind.COMMITS_HANG}
"""Kinds that a person is told of and for which no run is begun: no playbook matches them."""
ORDERED = frozenset(
    {IncidentKind.SWITCHOVER_ORDERED, IncidentKind.RESTART_ORDERED, IncidentKind.VERSION_ORDERED}
)
"""Planned work: no incident is opened for it, its run has none."""


ABOUT_STANDBYS = frozenset({IncidentKind.STANDBY_DOWN, IncidentKind.SYNC_MEMBER_SILENT})
"""The service writes all the while: what is done about them gives way to a failover."""


class IncidentState(StrEnum):
    """SUSPECT -> OPEN -> (SUPPRESSED | BLOCKED | AWAITING_APPROVAL) -> RECOVERING -> VERIFYING
    -> MITIGATED (serving, redundancy not yet back) -> RESOLVED; or ESCALATED (a person is called).
    """

    SUSPECT = "suspect"
    OPEN = "open"
    SUPPRESSED = "suppressed"
    BLOCKED = "blocked"
    AWAITING_APPROVAL = "awaiting_approval"
    RECOVERING = "recovering"
    VERIFYING = "verifying"
    MITIGATED = "mitigated"
    RESOLVED = "resolved"
    ESCALATED = "escalated"


ENDED = frozenset({IncidentState.RESOLVED, IncidentState.ESCALATED})
"""States in which nothing more is done automatically about an incident."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """``key`` is the fingerprint: at most one incident holds it at a time (``holds_key``).

    An escalated incident holds its key until its failure is over or a person acknowledged it.
    ``fault_at``: sent time of the first failed probe. The rest are aware UTC too, None until reached.
    """

    id: int
    key: str
    service: str
    instance: str
    kind: IncidentKind
    state: IncidentState
    severity: str
    summary: str
    fault_at: datetime
    detected_at: datetime
    mitigated_at: datetime | None = None
    resolved_at: datetime | None = None
    run: int | None = None
    parent: int | None = None
    """The incident that is recovered first, because this one depends on it."""
    holds_key: bool = True
    evidence: Facts = field(default_factory=dict)

    @property
    def target(self) -> Target:
        """What it is about."""
        return Target(service=self.service, instance=self.instance)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """One line of an incident's story; ``actor`` is who did it (vantage, worker, person)."""

    at: datetime
    actor: str
    text: str


def failures(incidents: Iterable[Incident]) -> tuple[Incident, ...]:
    """Those about something that is down, without what a person is only told of."""
    return tuple(incident for incident in incidents if incident.kind not in TOLD)


def incident_key(service: str, instance: str, kind: IncidentKind) -> str:
    """The fingerprint of a failure. A primary's failure belongs to the cluster, not to the node."""
    if kind is IncidentKind.PRIMARY_DOWN:
        return f"{service}/{kind}"
    return f"{service}/{instance}/{kind}"


def way_back(incident: Incident, primary: str | None) -> str:
    """How a person has the former primary lead again. It is never done by itself: it may fail again."""
    if incident.kind is not IncidentKind.PRIMARY_DOWN or primary in (None, incident.instance):
        return ""
    return f"; going back is up to you: ha-tasks switchover {incident.service} --to {incident.instance}"
