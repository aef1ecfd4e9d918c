"""Gathers what the guards judge by."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from ha_tasks.model.guards import GuardFacts
from ha_tasks.model.incident import Incident, IncidentKind, IncidentState
from ha_tasks.model.platform import Platform
from ha_tasks.model.playbook import Plan
from ha_tasks.model.run import RunState
from ha_tasks.model.verdict import Verdict, VerdictState
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.limits import Limits
from ha_tasks.ports.repositories import Incidents, Journal, Observations

HOUR = timedelta(hours=1)
AGENT_SEEN_WITHIN = timedelta(seconds=2.5)


class GuardFactsGatherer:
    """Reads only."""

    def __init__(
        self,
        *,
        platform: Platform,
        journal: Journal,
        incidents: Incidents,
        limits: Limits,
        observations: Observations,
        clock: Clock,
    ) -> None:
        self._platform = platform
        self._journal = journal
        self._incidents = incidents
        self._limits = limits
        self._observations = observations
        self._clock = clock

    def gather(
        self, incident: Incident, plan: Plan, *, blind: bool, verdicts: Sequence[Verdict]
    ) -> GuardFacts:
        """The facts of this moment for this plan."""
        now, policies = self._clock.now(), self._platform.policies
        active = self._journal.active()
        on_scope = [r.id for r in active if r.plan.scope == plan.scope]
        return GuardFacts(
            now=now,
            plan=plan,
            stopped_by=self._limits.switch("stop"),
            observe_only=self._limits.switch("observe") is not None,
            blind=blind,
            active_run=on_scope[0] if on_scope else None,
            cooling_until=self._limits.cooling(plan.scope, plan.playbook),
            running=len(active),
            max_running=policies.max_concurrent_runs,
            runs_last_hour=self._journal.started_since(now - HOUR),
            max_runs_per_hour=policies.max_runs_per_hour,
            healthy_others=self._healthy_others(incident, verdicts),
            failed_upstreams=self._failed_upstreams(incident),
            frozen_by=self._frozen_by(incident),
            silent_host=self._silent_host(incident),
        )

    @staticmethod
    def _healthy_others(incident: Incident, verdicts: Sequence[Verdict]) -> int:
        return sum(
            v.target.service == incident.service
            and v.target.instance != incident.instance
            and v.state is VerdictState.HEALTHY
            for v in verdicts
        )

    def _failed_upstreams(self, incident: Incident) -> tuple[str, ...]:
        """Services that must serve before this can be mended, and that an open incident keeps from it.

        A standby depends on its own service's primary. An escalated incident that has let its key go is
        over, and only waits to be acknowledged.
        """
        upstreams = self._platform.services[incident.service].depends_on
        if incident.kind is IncidentKind.STANDBY_DOWN:
            upstreams = (*upstreams, incident.service)
        down = {
            i.service
            for i in self._incidents.current()
            if i.kind is IncidentKind.PRIMARY_DOWN and i.state is not IncidentState.MITIGATED and i.holds_key
        }
        return tuple(u for u in upstreams if u in down)

    def _frozen_by(self, incident: Incident) -> int | None:
        for other in self._incidents.current():
            if other.service != incident.service or other.state is not IncidentState.ESCALATED:
                continue
            if other.run is None:
                continue
            if self._journal.get(other.run).state is RunState.COMPENSATION_FAILED:
                return other.id
        return None

    def _silent_host(self, incident: Incident) -> str | None:
        """A standby is brought back by the agent of its host: while that is silent, there is no way."""
        if incident.kind is not IncidentKind.STANDBY_DOWN:
            return None
        since = self._clock.now() - AGENT_SEEN_WITHIN
        seen = any(
            o.target.instance == incident.instance and o.facts.get("agent") is not None
            for o in self._observations.since(since, incident.service)
        )
        return None if seen else incident.instance
