"""What a person can do about an incident, in one sentence. Pure."""

from __future__ import annotations

from ha_tasks.model.incident import Incident, IncidentState
from ha_tasks.model.run import Run


def advice(incident: Incident, run: Run | None, last_event: str) -> str:
    """``run`` is the active run of the incident, None when it has none (any more)."""
    state = incident.state
    if state in (IncidentState.RECOVERING, IncidentState.VERIFYING):
        return _while_recovering(incident, run)
    if state is IncidentState.ESCALATED:
        return _when_escalated(incident)
    if state is IncidentState.BLOCKED:
        return _when_blocked(incident, last_event)
    return _PLAIN.get(state, f"read its story: ha-tasks incidents {incident.id}")


_PLAIN = {
    IncidentState.SUSPECT: "wait: it is being looked at from more vantages",
    IncidentState.OPEN: "wait: it is being decided; if nothing happens, see whether the workers run",
    IncidentState.SUPPRESSED: "wait: what it depends on is recovered first",
    IncidentState.MITIGATED: "wait: the service works again, its redundancy is being restored",
    IncidentState.RESOLVED: "leave it: it is over",
}


def _while_recovering(incident: Incident, run: Run | None) -> str:
    number = run.id if run is not None else incident.run
    return f"wait and watch: ha-tasks run {number}; end it between two steps: ha-tasks switch stop"


def _when_escalated(incident: Incident) -> str:
    see = f"see what failed: ha-tasks run {incident.run}; " if incident.run is not None else ""
    return f"{see}mend it by hand, then: ha-tasks ack I-{incident.id}"


def _when_blocked(incident: Incident, last_event: str) -> str:
    """A refusal says itself what ends it, if something does; else the recovery can be tried by hand."""
    if "ha-tasks " in last_event:
        return last_event[last_event.rindex("ha-tasks ") :].rstrip(".")
    return (
        f"see why: ha-tasks incidents {incident.id}; try again by hand: ha-tasks recover {incident.service}"
    )
