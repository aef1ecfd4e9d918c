"""Gathers what the guards judge by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from ha_tasks.model.balancer import ServerState
from ha_tasks.model.cluster import Cluster
from ha_tasks.model.data_risk import Loss, gap, possible_loss
from ha_tasks.model.guards import GuardFacts, Upstream
from ha_tasks.model.incident import ABOUT_STANDBYS, Incident, IncidentKind, IncidentState, failures
from ha_tasks.model.maintenance import Window, open_now
from ha_tasks.model.platform import DataPolicy, Platform, Role, Service
from ha_tasks.model.playbook import Acceptance, Plan
from ha_tasks.model.probe import ProbeOutcome
from ha_tasks.model.revision import UNREVISED, Standing
from ha_tasks.model.run import Run, RunState, leaves_nothing
from ha_tasks.model.switch import EVERYTHING, OBSERVE, STOP, Switch
from ha_tasks.model.sync_change import GAP, looks_at, without
from ha_tasks.model.unproved import read_doubts, standing
from ha_tasks.model.verdict import Verdict, VerdictState
from ha_tasks.names import ActionName
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.limits import Limits
from ha_tasks.ports.maintenance import MaintenanceBook
from ha_tasks.ports.repositories import (
    Clusters,
    Incidents,
    Journal,
    Observations,
    ReplicationBook,
    WantedServers,
)

HOUR = timedelta(hours=1)
SEEN_WITHIN = timedelta(seconds=2.5)
POSITIONS_SINCE = timedelta(seconds=30)
"""So long before a fault positions in the WAL are looked through; a longer lag is told as at least this."""


class GuardSources(Protocol):
    """Where the facts stand; the store has the repositories under these names."""

    @property
    def journal(self) -> Journal:
        """Runs."""
        ...

    @property
    def incidents(self) -> Incidents:
        """Incidents."""
        ...

    @property
    def limits(self) -> Limits:
        """Switches and cool-downs."""
        ...

    @property
    def maintenance(self) -> MaintenanceBook:
        """Maintenance windows."""
        ...

    @property
    def observations(self) -> Observations:
        """Outcomes of probes."""
        ...

    @property
    def clusters(self) -> Clusters:
        """PostgreSQL clusters."""
        ...

    @property
    def replication(self) -> ReplicationBook:
        """The latest picture of each cluster's replication."""
        ...

    @property
    def wanted(self) -> WantedServers:
        """What the balancers should look like."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a person has said about a run: that it may begin, and how much data may be lost for it."""

    approved: bool = False
    accepted_bytes: int | None = None


NOTHING_SAID = Said()


class GuardFactsGatherer:
    """Reads only."""

    def __init__(
        self,
        *,
        platform: Platform,
        sources: GuardSources,
        clock: Clock,
        standing: Callable[[], Standing] = lambda: UNREVISED,
    ) -> None:
        """``standing``: where this process stands among the revisions of the inventory."""
        self._standing = standing
        self._platform = platform
        self._sources = sources
        self._clock = clock

    def gather(
        self,
        incident: Incident,
        plan: Plan,
        *,
        blind: bool,
        verdicts: Sequence[Verdict],
        said: Said = NOTHING_SAID,
    ) -> GuardFacts:
        """The facts of this moment for this plan. Runs of the incident itself are in nobody's way."""
        now, policies, sources = self._clock.now(), self._platform.policies, self._sources
        service = self._platform.services[incident.service]
        others = [r for r in sources.journal.active() if r.incident is None or r.incident != incident.id]
        switches = sources.limits.switches()
        return GuardFacts(
            now=now,
            plan=plan,
            stopped=switched(switches, STOP, service.name),
            observing=switched(switches, OBSERVE, service.name),
            revision_problem=self._standing().problem,
            maintenance=self._maintenance(service, now),
            blind=blind,
            active_run=next((r.id for r in others if r.plan.scope == plan.scope), None),
            cooling_until=sources.limits.cooling(plan.scope, plan.playbook),
            promoted_at=self._promoted_at(incident),
            just_promoted_s=policies.just_promoted_s,
            running=sum(r.state is not RunState.AWAITING_APPROVAL for r in others),
            max_running=policies.max_concurrent_runs,
            runs_last_hour=self._begun_since(now - HOUR, incident),
            max_runs_per_hour=policies.max_runs_per_hour,
            healthy_others=self._healthy_others(incident, verdicts),
            pool=len(service.instances),
            taken_out=self._taken_out(service),
            upstreams=self._upstreams(incident),
            frozen_by=self._frozen_by(incident),
            silent_host=self.silent_host(incident),
            silent_primary=self._silent_primary(incident),
            stalled=self._stalled(incident, service),
            unproved=self._unproved(incident),
            possible_loss=self._possible_loss(incident, service, said),
            rpo_s=service.rpo_s,
            accepted_bytes=said.accepted_bytes,
            approved=said.approved,
        )

    def _maintenance(self, service: Service, now: datetime) -> tuple[Window, datetime] | None:
        return open_now(self._sources.maintenance.standing(now), service.name, now)

    def _begun_since(self, since: datetime, incident: Incident) -> int:
        """Without the run of the incident itself: it waits for an approval, and is asked about again."""
        count = self._sources.journal.started_since(since)
        own = None if incident.run is None else self._sources.journal.get(incident.run)
        waits = own is not None and own.state is RunState.AWAITING_APPROVAL and own.created_at >= since
        return count - waits

    def _promoted_at(self, incident: Incident) -> datetime | None:
        if incident.kind is not IncidentKind.PRIMARY_DOWN:
            return None
        return self._sources.journal.last_done(incident.service, ActionName.PROMOTE_CANDIDATE)

    @staticmethod
    def _healthy_others(incident: Incident, verdicts: Sequence[Verdict]) -> int:
        return sum(
            v.target.service == incident.service
            and v.target.instance != incident.instance
            and v.state is VerdictState.HEALTHY
            for v in verdicts
        )

    def _taken_out(self, service: Service) -> frozenset[str]:
        """Of those that should serve. Who serves of a database is decided by its role, not by its health."""
        if service.routing is None:
            return frozenset()
        active = {i.name for i in service.instances if i.role is Role.ACTIVE}
        return frozenset(
            w.server
            for w in self._sources.wanted.all()
            if w.backend == service.routing.backend
            and w.server in active
            and w.state is not ServerState.READY
        )

    def _upstreams(self, incident: Incident) -> tuple[Upstream, ...]:
        """Services that must serve before this can be mended, and that are down.

        A standby depends on its own service's primary. An escalated incident that has let its key go is
        over, and only waits to be acknowledged.
        """
        names = self._platform.services[incident.service].depends_on
        if incident.kind is IncidentKind.STANDBY_DOWN:
            names = (*names, incident.service)
        standing = [
            i
            for i in failures(self._sources.incidents.current())
            if i.state is not IncidentState.MITIGATED and i.holds_key and i.id != incident.id
        ]
        found = ((name, self._down_by(name, standing)) for name in names)
        return tuple(Upstream(service=name, incident=by) for name, by in found if by is not None)

    def _down_by(self, name: str, standing: Iterable[Incident]) -> int | None:
        """The incident by which a service does not serve at all: its primary's, or the first of all of it."""
        mine = [i for i in standing if i.service == name]
        primary = next((i.id for i in mine if i.kind is IncidentKind.PRIMARY_DOWN), None)
        service = self._platform.services.get(name)
        active = {i.name for i in service.instances if i.role is Role.ACTIVE} if service else set()
        if primary is not None or not active or not active <= {i.instance for i in mine}:
            return primary
        return min(i.id for i in mine)

    def _frozen_by(self, incident: Incident) -> int | None:
        for other in self._sources.incidents.current():
            if other.service != incident.service or other.state is not IncidentState.ESCALATED:
                continue
            if other.run is None:
                continue
            if self._sources.journal.get(other.run).state is RunState.COMPENSATION_FAILED:
                return other.id
        return None

    def silent_host(self, incident: Incident) -> str | None:
        """A standby is brought back by the agent of its host: while that is silent, there is no way.

        What it said before it fell silent does not count: a run would try until it has failed for good.
        """
        if incident.kind is not IncidentKind.STANDBY_DOWN:
            return None
        lasts = self._last_looks(incident.service, incident.instance)
        return None if any(o.facts.get("agent") is not None for o in lasts) else incident.instance

    def _silent_primary(self, incident: Incident) -> str | None:
        """A standby is brought back behind a primary that answers; that one is gone may not be proved yet."""
        if incident.kind is not IncidentKind.STANDBY_DOWN:
            return None
        cluster = self._cluster(self._platform.services[incident.service])
        if cluster is None:
            return None
        lasts = self._last_looks(incident.service, cluster.primary)
        return None if any(o.ok for o in lasts) else cluster.primary

    def _last_looks(self, service: str, instance: str) -> Sequence[ProbeOutcome]:
        """The last of each vantage that has looked lately."""
        lately = self._sources.observations.since(self._clock.now() - SEEN_WITHIN, service)
        mine = (o for o in lately if o.target.instance == instance)
        return tuple({o.vantage: o for o in sorted(mine, key=lambda o: o.sent_at)}.values())

    def _stalled(self, incident: Incident, service: Service) -> str | None:
        """The set that must stay, by the latest look at the primary; None: there is a way, or no look."""
        settings, cluster = service.postgres, self._cluster(service)
        if incident.kind is not IncidentKind.SYNC_MEMBER_SILENT or settings is None or cluster is None:
            return None
        outcomes = self._sources.observations.since(self._clock.now() - GAP, service.name)
        looks = sorted(looks_at(cluster.primary, outcomes), key=lambda look: look.at)
        if not looks or without(cluster.sets, incident.instance, looks[-1].receiving, settings.policy):
            return None
        return " and ".join(s.setting() for s in cluster.sets)

    def _unproved(self, incident: Incident) -> tuple[str, ...]:
        """Why R + W > N would prove nothing, by all that was seen while the primary lived.

        Where nobody has looked yet nothing is doubted: whoever is taken into care has its set set and
        confirmed, and the reconciler, which looks each second, tells of every edit that it puts back. To
        wait for a picture would have no failover at all where the schedule does not run.
        """
        cluster = self._cluster(self._platform.services[incident.service])
        if incident.kind is not IncidentKind.PRIMARY_DOWN or cluster is None:
            return ()
        _, picture = self._sources.replication.latest().get(cluster.name, (None, {}))
        return standing(read_doubts(picture), cluster)

    def _possible_loss(self, incident: Incident, service: Service, said: Said) -> Loss | None:
        """Policy durability stalls instead, whatever happens, unless a person accepts a loss."""
        settings = service.postgres
        if incident.kind is not IncidentKind.PRIMARY_DOWN or settings is None:
            return None
        cluster = self._cluster(service)
        if cluster is None:
            return None
        if settings.policy is DataPolicy.DURABILITY and said.accepted_bytes is None:
            return None
        outcomes = self._sources.observations.since(incident.fault_at - POSITIONS_SINCE, service.name)
        # What the probes show may not be what the agents confirm, so an acceptance is judged in any case.
        judge = possible_loss if said.accepted_bytes is None else gap
        return judge(outcomes, cluster, incident.fault_at)

    def _cluster(self, service: Service) -> Cluster | None:
        try:
            return self._sources.clusters.get(service.name)
        except KeyError:
            return None


def acceptance(given: Acceptance | None, loss: Loss | None) -> Acceptance | None:
    """What a run may lose that the guards have let pass: what was accepted, or what the policy lets go."""
    if loss is None or not loss.known:
        return given
    accepted = given or Acceptance(bytes=loss.bytes or 0)
    return replace(accepted, primary_at=loss.primary_at)


def switched(switches: Iterable[Switch], name: str, service: str) -> Switch | None:
    """The switch of that name that holds the service: the one of everything before its own."""
    held = [s for s in switches if s.name == name and s.scope in (EVERYTHING, service)]
    return min(held, key=lambda s: s.scope, default=None)


def gives_way(run: Run, incident: Incident, other: Incident) -> bool:
    """True when a run stands in the way of a primary's failover that only waits for a person, or leaves
    nothing that would have to be taken back, as a rejoin or a change of the synchronous set.

    So nothing is lost: ``other``, the run's incident, is asked about again afterwards.
    """
    primary = IncidentKind.PRIMARY_DOWN
    if incident.kind is not primary or run.plan.scope != incident.service or other.id == incident.id:
        return False
    if run.state is RunState.AWAITING_APPROVAL:
        return other.kind is not primary
    return other.kind in ABOUT_STANDBYS and leaves_nothing(run)
