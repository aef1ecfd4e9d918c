"""Incidents about clusters that others lead: opened and closed by what was seen, never recovered here."""

from __future__ import annotations

from datetime import timedelta

from ha_tasks.model.incident import LED_BY_OTHERS, Incident, IncidentKind, IncidentState
from ha_tasks.model.led_by_others import LASTING, Trouble, is_ours, refusal, troubles
from ha_tasks.model.platform import Platform, Service
from ha_tasks.names import Counter
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.ledger import Ledger
from ha_tasks.ports.repositories import Incidents, Observations

LOOK_BACK = LASTING + timedelta(seconds=5)


class LedWatch:
    """Any number of observers do this at the same time: one failure is one incident."""

    def __init__(
        self,
        *,
        platform: Platform,
        observations: Observations,
        incidents: Incidents,
        ledger: Ledger,
        clock: Clock,
        actor: str,
    ) -> None:
        self._services = [s for s in platform.services.values() if not is_ours(s)]
        self._observations = observations
        self._incidents = incidents
        self._ledger = ledger
        self._clock = clock
        self._actor = actor

    def look(self) -> None:
        """Opens what is wrong, closes what is over. Where too little was seen nothing changes."""
        for service in self._services:
            now = self._clock.now()
            outcomes = self._observations.since(now - LOOK_BACK, service.name)
            found = troubles(outcomes, {i.name for i in service.instances}, now)
            if found is None:
                continue
            for trouble in found:
                self._open(service, trouble)
            self._close(service, {trouble.kind for trouble in found})

    def _open(self, service: Service, trouble: Trouble) -> None:
        severity = "critical" if trouble.critical else "warning"
        _, new = self._incidents.open(
            key=f"{service.name}/{trouble.kind}",
            service=service.name,
            instance="",
            kind=trouble.kind,
            severity=severity,
            summary=f"{service.name}: {trouble.text}",
            fault_at=trouble.since,
            now=self._clock.now(),
            actor=self._actor,
            evidence={"told": refusal(service)},
        )
        if new:
            self._ledger.count(Counter.INCIDENTS, {"service_name": service.name, "severity": severity})

    def _close(self, service: Service, wrong: set[IncidentKind]) -> None:
        for incident in self._incidents.current():
            if incident.service == service.name and incident.kind in LED_BY_OTHERS - wrong:
                self._resolve(incident)

    def _resolve(self, incident: Incident) -> None:
        waiting = (IncidentState.OPEN, IncidentState.BLOCKED, IncidentState.SUPPRESSED)
        self._incidents.move(
            incident.id,
            IncidentState.RESOLVED,
            self._clock.now(),
            self._actor,
            "its manager says that this is over",
            only_from=waiting,
        )
