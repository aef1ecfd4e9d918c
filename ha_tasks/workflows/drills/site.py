"""Where a drill takes place: the service it hits, who its victims are, and whether it is whole."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from ha_tasks.errors import UsageError
from ha_tasks.model.cluster import Cluster, ClusterState
from ha_tasks.model.incident import IncidentState, failures
from ha_tasks.model.led_by_others import is_ours, must_be_ours
from ha_tasks.model.membership import redundant
from ha_tasks.model.platform import Platform, Role, Service, ServiceKind
from ha_tasks.model.scenario import Fault, Victim
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.limits import Limits
from ha_tasks.ports.repositories import Clusters, Incidents, Journal, Observations

FRESH_S = 2.5
"""An older observation says nothing about now."""


class Site:
    """One service under rehearsal. Reads the store; ``acknowledge`` is the only thing that it writes."""

    def __init__(
        self,
        service: Service,
        *,
        clusters: Clusters,
        incidents: Incidents,
        journal: Journal,
        limits: Limits,
        observations: Observations,
        clock: Clock,
    ) -> None:
        self.service = service
        self._clusters = clusters
        self._incidents = incidents
        self._journal = journal
        self._limits = limits
        self._observations = observations
        self._clock = clock

    def victims(self) -> dict[Victim, tuple[str, ...]]:
        """Names of those that can be told before the drill; the rest is found while it goes on."""
        if self.service.kind is ServiceKind.HTTP:
            active = next(i for i in self.service.instances if i.role is Role.ACTIVE)
            return {Victim.ACTIVE: (active.name,)}
        cluster = self._cluster()
        standing = cluster.sets[0]
        members = standing.members
        return {
            Victim.PRIMARY: (cluster.primary,),
            Victim.STANDBY: members[-1:],
            Victim.STANDBYS: members[-standing.quorum :],
            Victim.EVERY_STANDBY: members,
            Victim.BROKER: ("broker",),
            Victim.STORE: ("",),
        }

    def unwell(self) -> list[str]:
        """What is not whole: open incidents, runs, instances that do not answer, a set that is not full."""
        current = failures(self._incidents.current())
        open_ones = [i for i in current if i.service == self.service.name and i.holds_key]
        found = [f"incident {i.id} is {i.state}: {i.summary}" for i in open_ones]
        runs = [r for r in self._journal.active() if r.plan.service == self.service.name]
        found += [f"run {r.id} is {r.state}" for r in runs]
        return found + self.missing()

    def missing(self) -> list[str]:
        """Which instances do not answer, and what the cluster lacks."""
        lately = self._clock.now() - timedelta(seconds=FRESH_S)
        latest = {o.target.instance: o for o in self._observations.since(lately, self.service.name)}
        names = [i.name for i in self.service.instances]
        silent = [n for n in names if n not in latest or not latest[n].ok]
        found = [f"{n} does not answer" for n in silent]
        if self.service.kind is not ServiceKind.POSTGRES:
            return found
        cluster = self._cluster()
        if cluster.state is not ClusterState.STEADY:
            found.append(f"the cluster is {cluster.state}")
        if not redundant(cluster, self.service):
            wanted = set(names) - self.service.asynchronous - {cluster.primary}
            recorded = "; ".join(", ".join(sorted(each.members)) for each in cluster.sets)
            found.append(f"the synchronous set is ({recorded}), not ({', '.join(sorted(wanted))})")
        return found

    def acknowledge(self, actor: str) -> tuple[str, ...]:
        """Earlier drills' cool-downs and escalated incidents are acknowledged, and that is recorded."""
        now = self._clock.now()
        done = [f"cool-down of {p}" for p in self._limits.acknowledge(self.service.name, now, actor)]
        for incident in self._incidents.current():
            if incident.service == self.service.name and incident.state is IncidentState.ESCALATED:
                self._incidents.acknowledge(incident.id, now, actor)
                done.append(f"incident {incident.id}")
        return tuple(done)

    def _cluster(self) -> Cluster:
        return self._clusters.get(self.service.name)


def service_of(platform: Platform, kind: ServiceKind) -> Service:
    """The first of its kind that is ours. UsageError without any; Refused when others lead them all."""
    known = [service for service in platform.services.values() if service.kind is kind]
    if not known:
        raise UsageError(f"the inventory has no service of kind {kind} to rehearse on")
    chosen = next(filter(is_ours, known), known[0])
    must_be_ours(chosen)
    return chosen


def targets_of(fault: Fault, victims: Mapping[Victim, tuple[str, ...]]) -> tuple[str, ...]:
    """Whom the fault hits, by name."""
    return (fault.boundary,) if fault.victim is Victim.BOUNDARY else victims[fault.victim]
