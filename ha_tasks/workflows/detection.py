"""From probes to a run: look, judge, open an incident, plan, ask the guards, start.

Any number of observers do this at the same time: unique indexes make one incident and one run of it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ha_tasks.failover.health_monitor import HealthMonitor
from ha_tasks.failover.service_discovery import ServiceRegistry
from ha_tasks.model.cluster import Cluster
from ha_tasks.model.evidence import Remedy
from ha_tasks.model.health import instance_score
from ha_tasks.model.incident import Incident, IncidentKind, IncidentState, failures, incident_key, way_back
from ha_tasks.model.led_by_others import is_ours, observed_primary
from ha_tasks.model.membership import doubted, leaving, led, outside, redundant, unfed
from ha_tasks.model.platform import Platform, Service, ServiceKind
from ha_tasks.model.playbook import Acceptance, Plan
from ha_tasks.model.probe import ProbeOutcome, Target
from ha_tasks.model.run import Run
from ha_tasks.model.symptoms import window_s
from ha_tasks.model.sync_change import members_of
from ha_tasks.model.usual import UsualLatency
from ha_tasks.model.verdict import Verdict, VerdictState, answering, deaf, half_failed_over, left_out
from ha_tasks.names import Counter, Histogram
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.ledger import Ledger
from ha_tasks.ports.limits import Limits
from ha_tasks.ports.repositories import Clusters, Incidents, Observations
from ha_tasks.recovery.failure_detector import FailureDetector
from ha_tasks.workflows.hanging_commits import HangingCommits
from ha_tasks.workflows.service_states import ServiceStates
from ha_tasks.workflows.starting import WAITING, Answer, Order, RunStarter

LOOK_BACK_S = 15.0
"""Outcomes older than this say nothing about now; those of services are looked back on for longer."""
UNTREATED = (*WAITING, IncidentState.AWAITING_APPROVAL, IncidentState.ESCALATED)
"""States of an incident that no run has mended, or is about to."""
_SEVERITY = {IncidentKind.PRIMARY_DOWN: "critical"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a look came to: the verdicts, and the runs that it started."""

    verdicts: tuple[Verdict, ...]
    incidents: tuple[Incident, ...]
    started: tuple[Run, ...]
    others: tuple[Plan, ...] = ()
    """Plans that were not started, because only another one might be."""


class Detection:
    """The story of detection, for all services or one."""

    def __init__(
        self,
        *,
        platform: Platform,
        health: HealthMonitor,
        registry: ServiceRegistry,
        detector: FailureDetector,
        starter: RunStarter,
        observations: Observations,
        incidents: Incidents,
        clusters: Clusters,
        limits: Limits,
        ledger: Ledger,
        clock: Clock,
        actor: str,
    ) -> None:
        self._platform = platform
        self._health = health
        self._registry = registry
        self._detector = detector
        self._starter = starter
        self._observations = observations
        self._incidents = incidents
        self._clusters = clusters
        self._limits = limits
        self._ledger = ledger
        self._clock = clock
        self._actor = actor
        self._hanging = HangingCommits(
            incidents=incidents,
            observations=observations,
            ledger=ledger,
            clock=clock,
            actor=actor,
            led=lambda name: led(self._cluster(platform.services[name])),
        )
        self._usual = UsualLatency()
        self._states = ServiceStates(ledger, clock)

    def look(self, services: Sequence[Service]) -> tuple[ProbeOutcome, ...]:
        """Probes every instance of the services side by side and records what came of it."""
        outcomes = tuple(self._health.look(services))
        self._observations.record(outcomes)
        return outcomes

    def judge(self, services: Sequence[Service], horizon: datetime | None = None) -> tuple[Verdict, ...]:
        """Verdicts from every vantage's outcomes; those before ``horizon`` are left out.

        An observer that missed its own schedule passes the moment it woke: what it saw before that
        may be its own trouble.
        """
        now = self._clock.now()
        outcomes = self._observations.since(max(filter(None, (now - _look_back(services), horizon))))
        verdicts: list[Verdict] = []
        usual_s = self._usual.known(now)
        for service in services:
            cluster = self._cluster(service)
            primary = None if cluster is None else cluster.primary
            begin = now - _look_back([service])
            mine = [o for o in outcomes if o.target.service == service.name and o.sent_at >= begin]
            lost = leaving(cluster, service, mine, now)
            judged = self._detector.analyze_system_state(service, mine, now, primary=primary, usual_s=usual_s)
            self._usual.learn(judged, now)
            apart, hungry = outside(cluster, service), unfed(cluster, service, mine, now)
            left = [left_out(v, now) if v.target.instance in apart else v for v in judged]
            left = [deaf(v, hungry.get(v.target.instance)) for v in left]
            whole = [
                half_failed_over(v, doubted(cluster), now) if v.target.instance == primary else v
                for v in left
            ]
            known = [replace(v, unheard_since=lost.get(v.target.instance), judged_at=now) for v in whole]
            verdicts += [_scored(v, service, mine, now) for v in known]
        return self._trusting(verdicts)

    def _trusting(self, verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
        """What relapses keeps its incident open. Where a run has verified that it is well, or nothing was
        opened, there is nothing to keep: it answers, and that is all.
        """
        if all(v.state is not VerdictState.FLAPPING for v in verdicts):
            return tuple(verdicts)
        current = [i for i in self._incidents.current() if i.state in UNTREATED and i.holds_key]
        kept = {i.target for i in current}
        return tuple(v if v.target in kept else answering(v) for v in verdicts)

    def react(
        self,
        verdicts: Sequence[Verdict],
        *,
        only: str | None = None,
        asked_by: str | None = None,
        accepts: Acceptance | None = None,
    ) -> Finding:
        """Opens, follows and closes incidents by the verdicts, and starts what the guards allow.

        ``only``: hash of the one plan that may be started, or the beginning of it. ``asked_by``: the
        person who wants it recovered now, for whom some guards are not asked; None: it is automatic.
        ``accepts``: what that person lets be lost for it; an escalated failover is begun again with it.
        """
        by_service: dict[str, list[Verdict]] = {}
        for verdict in verdicts:
            by_service.setdefault(verdict.target.service, []).append(verdict)
        for name, mine in by_service.items():
            service = self._platform.services[name]
            self._states.tell(service, mine, self._rotation(service))
        self._end_replaced(by_service)
        planned = {name for name in by_service if self._starter.works_on(name)}
        # A node that planned work stops on purpose is no failure; its run has a deadline at each step.
        judged = [v for v in verdicts if v.target.service not in planned]
        failed = [v for v in judged if v.state is VerdictState.FAILED]
        opened = [*map(self._open, failed), *(self._open_silent(v, judged) for v in self._silent(judged))]
        self._close(verdicts)
        self._hanging.look(judged)
        again = () if accepts is None else self._starter.refused_failovers(by_service)
        blind = {v.target.service for v in verdicts if v.state is VerdictState.BLIND}
        touched = {incident.id: incident for incident in opened}
        ours = {name for name in by_service if is_ours(self._platform.services[name])}
        self._starter.try_again(ours)
        current = [i for i in failures(self._incidents.current()) if i.service in ours]
        back = {v.target for v in verdicts if v.state is VerdictState.FLAPPING}
        waiting = [i for i in current if (i.state in WAITING and i.target not in back) or i in again]
        answers = [
            self._start(i, blind, verdicts, only=only, asked_by=asked_by, accepts=accepts)
            for i in self._in_order(waiting)
        ]
        return Finding(
            verdicts=tuple(verdicts),
            incidents=tuple(touched.values()),
            started=tuple(a.run for a in answers if a.run is not None and a.new),
            others=tuple(a.other for a in answers if a.other is not None),
        )

    def primary_of(self, service: Service) -> str | None:
        """The recorded primary of a PostgreSQL service; None for other kinds, or when none is recorded.

        Of one that others lead nothing is recorded: what was, before they took it over, is past.
        """
        cluster = self._cluster(service)
        return None if cluster is None else cluster.primary

    def _cluster(self, service: Service) -> Cluster | None:
        """What is recorded of it; None as above."""
        if service.kind is not ServiceKind.POSTGRES or not is_ours(service):
            return None
        try:
            return self._clusters.get(service.name)
        except KeyError:
            return None

    def _end_replaced(self, services: Collection[str]) -> None:
        """Before anything is opened: the new primary's failure would be taken for the old one's."""
        for incident in self._incidents.current():
            judged = incident.service in services
            primary = self.primary_of(self._platform.services[incident.service]) if judged else None
            if primary is not None:
                self._starter.end_replaced(incident, primary)

    def _silent(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """Without those that a rejoin is about: it takes them out of the set itself, if it takes long."""
        at_it = (IncidentState.RECOVERING, IncidentState.VERIFYING)
        mended = (i for i in self._incidents.current() if i.kind is IncidentKind.STANDBY_DOWN)
        coming = {i.target for i in mended if i.state in at_it}
        return [v for v in verdicts if v.unheard_since is not None and v.target not in coming]

    def _open_silent(self, verdict: Verdict, verdicts: Sequence[Verdict]) -> Incident:
        """Critical where no member receives: then no commit is acknowledged."""
        service = verdict.target.service
        silent = {v.target.instance for v in verdicts if v.target.service == service and v.unheard_since}
        members = members_of(self._clusters.get(service).sets)
        asynchronous = verdict.target.instance in self._platform.services[service].asynchronous
        text = f"in the synchronous set, and {'sync = false' if asynchronous else 'receives nothing'}"
        found = replace(verdict, evidence=text, failing_since=verdict.unheard_since)
        severity = "critical" if members <= silent else "warning"
        return self._open(found, IncidentKind.SYNC_MEMBER_SILENT, severity)

    def _open(
        self, verdict: Verdict, kind: IncidentKind | None = None, severity: str | None = None
    ) -> Incident:
        service = self._platform.services[verdict.target.service]
        instance, now = verdict.target.instance, self._clock.now()
        kind = kind or self._kind(service, instance)
        incident, new = self._held_by(verdict, kind, severity)
        if not new and incident.state is IncidentState.MITIGATED and incident.instance != instance:
            text = f"{instance}, which took over, failed before redundancy was back"
            self._incidents.move(incident.id, IncidentState.RESOLVED, now, self._actor, text)
            incident, new = self._held_by(verdict, kind, severity)
        if new:
            delay = (now - incident.fault_at).total_seconds()
            labels = {"service_name": service.name, "severity": incident.severity}
            self._ledger.count(Counter.INCIDENTS, labels)
            self._ledger.observe(Histogram.DETECTION_DELAY, {"detector": service.kind}, delay)
        return incident

    def _held_by(self, verdict: Verdict, kind: IncidentKind, severity: str | None) -> tuple[Incident, bool]:
        """The incident that holds the failure's key, and whether it was opened just now."""
        service, instance, now = verdict.target.service, verdict.target.instance, self._clock.now()
        return self._incidents.open(
            key=incident_key(service, instance, kind),
            service=service,
            instance=instance,
            kind=kind,
            severity=severity or _SEVERITY.get(kind, "warning"),
            summary=f"{instance} of {service}: {verdict.evidence}",
            fault_at=verdict.failing_since or now,
            now=now,
            actor=self._actor,
            evidence={"verdict": verdict.evidence, "vantages": list(verdict.vantages)},
        )

    def _kind(self, service: Service, instance: str) -> IncidentKind:
        if service.kind is not ServiceKind.POSTGRES:
            return IncidentKind.INSTANCE_DOWN
        primary = self.serving_primary(service)
        return IncidentKind.PRIMARY_DOWN if instance == primary else IncidentKind.STANDBY_DOWN

    def serving_primary(self, service: Service) -> str | None:
        """The recorded primary; of a cluster that others lead, who lately said that it takes writes."""
        if is_ours(service):
            return self.primary_of(service)
        since = self._clock.now() - timedelta(seconds=LOOK_BACK_S)
        return observed_primary(self._observations.since(since, service.name))

    def _close(self, verdicts: Sequence[Verdict]) -> None:
        """What is over: mended by itself before anything was begun, or mitigated and whole again.

        A slow observer's judgement from before an incident was opened says nothing about it.
        """
        healthy = {v.target for v in verdicts if v.state is VerdictState.HEALTHY}
        silent = {v.target for v in verdicts if v.unheard_since is not None}
        for incident in failures(self._incidents.current()):
            service = self._platform.services.get(incident.service)
            mine = [v for v in verdicts if service is not None and v.target.service == service.name]
            if service is None or not mine or any(_is_older(v, incident) for v in mine):
                continue
            target_ok = any(t.service == service.name and t.instance == incident.instance for t in healthy)
            if incident.kind is IncidentKind.SYNC_MEMBER_SILENT:
                still = Target(service=service.name, instance=incident.instance) in silent
                target_ok = self._let_out(incident, service) or (target_ok and not still)
            whole = all(
                any(t.service == service.name and t.instance == i.name for t in healthy)
                for i in service.instances
            )
            self._close_one(incident, service, target_ok=target_ok, whole=whole)

    def _let_out(self, incident: Incident, service: Service) -> bool:
        """The silent member is none any more: commits do not wait for it, whatever has become of it."""
        cluster = led(self._cluster(service))
        return cluster is not None and incident.instance not in members_of(cluster.sets)

    def _close_one(self, incident: Incident, service: Service, *, target_ok: bool, whole: bool) -> None:
        now = self._clock.now()
        if incident.state is IncidentState.MITIGATED and whole and self._redundant(service):
            text = f"redundancy is back{way_back(incident, self.primary_of(service))}"
            self._incidents.move(incident.id, IncidentState.RESOLVED, now, self._actor, text)
        elif incident.state in WAITING and target_ok:
            text = "healthy again before anything was done"
            self._incidents.move(
                incident.id, IncidentState.RESOLVED, now, self._actor, text, only_from=WAITING
            )
        elif incident.state is IncidentState.AWAITING_APPROVAL and target_ok:
            self._starter.withdraw(incident, "healthy again before anybody approved it")
        elif incident.state is IncidentState.ESCALATED and target_ok and incident.holds_key:
            self._incidents.let_go(incident.id, now, self._actor, "healthy again")

    def _redundant(self, service: Service) -> bool:
        """The synchronous set has every other node again."""
        if service.kind is not ServiceKind.POSTGRES or not is_ours(service):
            return True
        return redundant(self._clusters.get(service.name), service)

    def _in_order(self, incidents: Sequence[Incident]) -> list[Incident]:
        """A primary before its standbys, the oldest first."""
        return sorted(incidents, key=lambda i: (i.kind is not IncidentKind.PRIMARY_DOWN, i.detected_at))

    def _start(
        self,
        incident: Incident,
        blind: set[str],
        verdicts: Sequence[Verdict],
        *,
        only: str | None,
        asked_by: str | None,
        accepts: Acceptance | None,
    ) -> Answer:
        by_itself = "drill" if self._limits.switch("drill") else "auto"
        order = Order(
            incident=incident,
            mode="manual" if asked_by else by_itself,
            requested_by=asked_by or self._actor,
            reason=incident.summary,
            idempotency_key=_key(incident),
            only=only,
            accepts=accepts,
        )
        return self._starter.start(order, blind=incident.service in blind, verdicts=verdicts)

    def _rotation(self, service: Service) -> Sequence[str]:
        """Who gets the traffic: of a database the recorded primary alone."""
        if service.kind is ServiceKind.POSTGRES:
            primary = self.serving_primary(service)
            return [] if primary is None else [primary]
        return self._registry.in_rotation(service.name)


def _look_back(services: Sequence[Service]) -> timedelta:
    """How far back the outcomes of the services are worth to be read."""
    spans = [LOOK_BACK_S if s.kind is ServiceKind.POSTGRES else window_s(s.check) for s in services]
    return timedelta(seconds=max(spans, default=LOOK_BACK_S))


def _is_older(verdict: Verdict, incident: Incident) -> bool:
    return verdict.judged_at is not None and verdict.judged_at < incident.detected_at


def _key(incident: Incident) -> str:
    """One run per incident, and another one when that was called off before it began."""
    after = "" if incident.run is None else f"-after-run-{incident.run}"
    return f"incident-{incident.id}{after}"


def _scored(verdict: Verdict, service: Service, outcomes: Sequence[ProbeOutcome], now: datetime) -> Verdict:
    """Reads that are answered do not make up for writes that hang."""
    mine = [o for o in outcomes if o.target == verdict.target]
    hangs = verdict.remedy is not Remedy.NONE
    return replace(verdict, score=0.0 if hangs else instance_score(service, mine, now))
