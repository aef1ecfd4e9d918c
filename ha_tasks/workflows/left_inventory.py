"""Failures of what has left the inventory: nobody probes it any more, so no probe could ever end them."""

from __future__ import annotations

from collections.abc import Callable

from ha_tasks.model.incident import Incident, IncidentKind, IncidentState
from ha_tasks.model.platform import Platform
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.repositories import Incidents
from ha_tasks.workflows.starting import WAITING

OF_AN_INSTANCE = frozenset(
    {IncidentKind.INSTANCE_DOWN, IncidentKind.STANDBY_DOWN, IncidentKind.SYNC_MEMBER_SILENT}
)
"""A primary's failure is the cluster's, and what another manager tells of may be about nodes of its own."""


class LeftInventory:
    """Every observer looks; an incident that a run works on is left to it."""

    def __init__(
        self,
        *,
        platform: Platform,
        incidents: Incidents,
        clock: Clock,
        actor: str,
        held: Callable[[], str | None],
    ) -> None:
        """``held``: why nothing may be changed now, for instance by a process with an older inventory."""
        self._platform = platform
        self._incidents = incidents
        self._clock = clock
        self._actor = actor
        self._held = held

    def look(self) -> None:
        """Ends what waits for something that is not there any more. Idempotent."""
        if self._held() is not None:
            return
        for incident in self._incidents.current():
            if gone := self._gone(incident):
                self._end(incident, f"{gone} is not in the inventory any more")

    def _gone(self, incident: Incident) -> str:
        """What has left; empty when it is all there."""
        service = self._platform.services.get(incident.service)
        if service is None:
            return incident.service
        there = {instance.name for instance in service.instances}
        return incident.instance if incident.kind in OF_AN_INSTANCE and incident.instance not in there else ""

    def _end(self, incident: Incident, text: str) -> None:
        now = self._clock.now()
        over = (*WAITING, IncidentState.SUSPECT, IncidentState.MITIGATED)
        if incident.state in over:
            state = IncidentState.RESOLVED
            self._incidents.move(incident.id, state, now, self._actor, text, only_from=over)
        elif incident.state is IncidentState.ESCALATED and incident.holds_key:
            self._incidents.let_go(incident.id, now, self._actor, text)
