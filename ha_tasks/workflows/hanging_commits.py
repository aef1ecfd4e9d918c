"""Commits that hang on the synchronous set are told of while that is changed; nothing is failed over for it.

What mends it is the rule of the set (a member that receives nothing leaves it), or, where policy durability
keeps it, whoever brings a member back. Users see the outage all the while, so people must.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ha_tasks.model.cluster import Cluster
from ha_tasks.model.evidence import Remedy
from ha_tasks.model.hanging_commits import FLOW_FOR, commits_flow
from ha_tasks.model.incident import Incident, IncidentKind, IncidentState, incident_key
from ha_tasks.model.verdict import Verdict
from ha_tasks.names import Counter
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.ledger import Ledger
from ha_tasks.ports.repositories import Incidents, Observations

SEVERITY = "critical"


class HangingCommits:
    """Any number of observers do this with each judgement: an incident's key is unique."""

    def __init__(
        self,
        *,
        incidents: Incidents,
        observations: Observations,
        ledger: Ledger,
        clock: Clock,
        actor: str,
        led: Callable[[str], Cluster | None],
    ) -> None:
        """``led``: the cluster that a service is, while nobody fails it over; None otherwise."""
        self._incidents = incidents
        self._observations = observations
        self._ledger = ledger
        self._clock = clock
        self._actor = actor
        self._led = led

    def look(self, verdicts: Sequence[Verdict]) -> None:
        """Opens by the verdicts about primaries, and resolves by what every vantage saw since. Idempotent."""
        for verdict in verdicts:
            if verdict.remedy is Remedy.CHANGE_SET:
                cluster = self._led(verdict.target.service)
                if cluster is not None and cluster.primary == verdict.target.instance:
                    self._open(verdict, cluster)
        judged = {verdict.target.service for verdict in verdicts}
        for incident in self._incidents.current():
            if incident.kind is IncidentKind.COMMITS_HANG and incident.service in judged:
                self._resolve(incident)

    def _open(self, verdict: Verdict, cluster: Cluster) -> None:
        service, instance, now = verdict.target.service, verdict.target.instance, self._clock.now()
        sets = " and ".join(dict.fromkeys(s.setting() for s in cluster.sets))
        _, new = self._incidents.open(
            key=incident_key(service, instance, IncidentKind.COMMITS_HANG),
            service=service,
            instance=instance,
            kind=IncidentKind.COMMITS_HANG,
            severity=SEVERITY,
            summary=f"{instance} of {service}: {verdict.evidence}",
            fault_at=verdict.failing_since or now,
            now=now,
            actor=self._actor,
            evidence={
                "verdict": verdict.evidence,
                "vantages": list(verdict.vantages),
                "remedy": f"see who of {sets} receives and flushes: ha-tasks replication {service}; "
                "a member that receives nothing leaves the set by itself",
            },
        )
        if new:
            self._ledger.count(Counter.INCIDENTS, {"service_name": service, "severity": SEVERITY})

    def _resolve(self, incident: Incident) -> None:
        cluster, now = self._led(incident.service), self._clock.now()
        if cluster is None:
            return
        text = "commits are acknowledged again"
        if cluster.primary != incident.instance:
            text = f"{cluster.primary} is the primary now"
        elif not commits_flow(
            self._observations.since(now - FLOW_FOR, incident.service), cluster.primary, now
        ):
            return
        only_from = (IncidentState.OPEN,)
        self._incidents.move(incident.id, IncidentState.RESOLVED, now, self._actor, text, only_from=only_from)
