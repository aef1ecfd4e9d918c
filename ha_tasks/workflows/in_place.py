"""Starting a crashed primary again where it is, when its failover is refused for now.

A cool-down keeps a cluster from being failed over again and again; it is no reason to leave a primary down
that only has to be started. Nothing is promoted by it, and no commit that was acknowledged is lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ha_tasks.errors import HaTasksError, StaleAuthority
from ha_tasks.model.cluster import Cluster, ClusterState
from ha_tasks.model.guards import Guard
from ha_tasks.model.incident import Incident, IncidentKind, IncidentState
from ha_tasks.model.platform import Platform
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.host import Authority, DatabaseAgent, Postmaster
from ha_tasks.ports.limits import Limits
from ha_tasks.ports.repositories import Clusters, Incidents, Journal
from ha_tasks.workflows.store_watch import is_led

log = logging.getLogger(__name__)

FOR_NOW = frozenset(
    {Guard.COOL_DOWN, Guard.JUST_PROMOTED, Guard.CONCURRENT, Guard.GLOBAL_RATE, Guard.DATA_LOSS}
)
"""Refusals of a failover that say nothing against the primary. Where a person has said no (a switch, a
maintenance window), or nobody knows what is true, nothing is started either."""
START_S = 30.0


class InPlace:
    """Every observer does this each second; agents refuse what a failover has overtaken."""

    def __init__(
        self,
        *,
        platform: Platform,
        clusters: Clusters,
        agents: DatabaseAgent,
        incidents: Incidents,
        limits: Limits,
        journal: Journal,
        clock: Clock,
        actor: str,
        held: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._platform = platform
        self._clusters = clusters
        self._agents = agents
        self._incidents = incidents
        self._limits = limits
        self._journal = journal
        self._clock = clock
        self._actor = actor
        self._held = held

    def look(self) -> None:
        """Starts the recorded primary of each cluster that waits, if its agent says that it has ended.

        Idempotent. Raises the trouble of a start, after it was written into the incident's story once.
        """
        if self._held() is not None:
            return
        for incident in self._incidents.current():
            guard = self._refused_for_now(incident)
            cluster = None if guard is None else self._cluster(incident)
            if guard is not None and cluster is not None and self._has_ended(cluster.primary):
                self._start(incident, cluster, guard)

    def _refused_for_now(self, incident: Incident) -> Guard | None:
        waits = incident.kind is IncidentKind.PRIMARY_DOWN and incident.state is IncidentState.BLOCKED
        said = self._limits.last_refusal(incident.id) if waits else None
        return Guard(said) if said in FOR_NOW else None

    def _cluster(self, incident: Incident) -> Cluster | None:
        """None unless it is led by us, steady, and nobody works on it."""
        service = self._platform.services.get(incident.service)
        if service is None or not is_led(service):
            return None
        try:
            cluster = self._clusters.get(service.name)
        except KeyError:
            return None
        busy = any(run.plan.scope == service.name for run in self._journal.active())
        mine = cluster.primary == incident.instance and cluster.state is ClusterState.STEADY
        return cluster if mine and not busy else None

    def _has_ended(self, node: str) -> bool:
        """A frozen one is not touched: it runs, and may wake."""
        try:
            return self._agents.status(node).postmaster is not Postmaster.RUNNING
        except HaTasksError:  # asked again in a second
            return False

    def _start(self, incident: Incident, cluster: Cluster, guard: Guard) -> None:
        by = Authority(epoch=cluster.epoch, fence=self._journal.next_fence(self._clock.now()))
        node, setting = cluster.primary, cluster.sets[0].setting() if cluster.sets else ""
        try:
            self._agents.start_primary(node, setting, by, timeout_s=START_S)
        except StaleAuthority:
            return  # another observer was here first, or a failover has begun after all
        except HaTasksError as error:
            self._tell(incident, f"{node} could not be started again in place: {error}")
            raise
        self._tell(incident, f"{node} was started again in place, for its failover is refused by {guard}")

    def _tell(self, incident: Incident, text: str) -> None:
        """Once: two observers may both have given the order, of which the second found it started."""
        self._incidents.note(incident.id, self._clock.now(), self._actor, text, once=True)
