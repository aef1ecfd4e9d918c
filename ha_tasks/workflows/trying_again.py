"""Beginning again what failed for good about a standby, for instance because its host died midway."""

from __future__ import annotations

from collections.abc import Callable, Collection

from ha_tasks.model.incident import Incident, IncidentKind, IncidentState
from ha_tasks.model.run import Run
from ha_tasks.model.trying_again import BEGUN_AGAIN, TRIES, is_due, is_left_lying, tries_told
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.repositories import Incidents, Journal


class TryingAgain:
    """Every observer does this with each judgement; the incident's state says who was first."""

    def __init__(
        self,
        *,
        incidents: Incidents,
        journal: Journal,
        clock: Clock,
        actor: str,
        is_away: Callable[[Incident], bool],
    ) -> None:
        """``is_away``: whether nobody could do anything about it now, for its agent is silent."""
        self._incidents = incidents
        self._journal = journal
        self._clock = clock
        self._actor = actor
        self._is_away = is_away

    def look(self, services: Collection[str]) -> None:
        """Opens again what is due; the guards decide as ever whether its run may begin. Idempotent."""
        for incident in self._incidents.current():
            if incident.service not in services or incident.run is None:
                continue
            run = self._journal.get(incident.run)
            if is_left_lying(incident, run) and not self._is_away(incident):
                self._again(incident, run)

    def _again(self, incident: Incident, run: Run) -> None:
        now = self._clock.now()
        tries = tries_told(entry.text for entry in self._incidents.timeline(incident.id))
        if tries >= TRIES:
            text = (
                f"given up: it was begun again {TRIES} times; when the cause is mended: "
                f"ha-tasks ack I-{incident.id}, and it begins anew"
            )
            self._incidents.note(incident.id, now, self._actor, text, once=True)
        elif is_due(run, tries, now):
            text = f"{BEGUN_AGAIN} ({tries + 1} of {TRIES}), for run {run.id} failed"
            if incident.kind is IncidentKind.STANDBY_DOWN:
                text += f" and {incident.instance} answers"
            escalated = (IncidentState.ESCALATED,)
            self._incidents.move(incident.id, IncidentState.OPEN, now, self._actor, text, only_from=escalated)
