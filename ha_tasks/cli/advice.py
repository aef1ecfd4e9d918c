"""What a person can do about an incident, in one sentence. Pure."""

from __future__ import annotations

from ha_tasks.model.incident import TOLD, Incident, IncidentState
from ha_tasks.model.run import Run


def advice(incident: Incident, run: Run | None, last_event: str) -> str:
    """``run`` is the active run of the incident, None when it has none (any more)."""
    state = incident.state
    if state in (IncidentState.RECOVERING, IncidentState.VERIFYING):
        return _while_recovering(incident, run)
    if state is IncidentState.ESCALATED:
        return _when_escalated(incident)
    if state is IncidentState.AWAITING_APPROVAL:
        return _when_asked(incident)
    if state is IncidentState.SUPPRESSED and incident.parent is not None:
        return f"wait: what it depends on is recovered first; see: ha-tasks incidents {incident.parent}"
    if state is IncidentState.BLOCKED:
        return _when_blocked(incident, last_event)
    return _remedy(incident) or _PLAIN.get(state, f"read its story: ha-tasks incidents {incident.id}")


def _remedy(incident: Incident) -> str:
    """Of what nothing but a person can mend it says itself how; '' for all else."""
    if incident.kind not in TOLD or incident.state is not IncidentState.OPEN:
        return ""
    remedy = incident.evidence.get("remedy")
    return f"mend it: {remedy}" if remedy else ""


_PLAIN = {
    IncidentState.SUSPECT: "wait: it is being looked at from more vantages",
    IncidentState.OPEN: "wait: it is being decided; if nothing happens, see whether the workers run",
    IncidentState.SUPPRESSED: "wait: what it depends on is recovered first",
    IncidentState.MITIGATED: "wait: the service works again, its redundancy is being restored",
    IncidentState.RESOLVED: "leave it: it is over",
}


def _while_recovering(incident: Incident, run: Run | None) -> str:
    number = run.id if run is not None else incident.run
    end = f"ha-tasks switch off {incident.service}"
    return f"wait and watch: ha-tasks run {number}; end it between two steps: {end}"


def _when_asked(incident: Incident) -> str:
    return (
        f"look at what would be done: ha-tasks run {incident.run}; "
        f"then say yes: ha-tasks approve {incident.run}; or no: ha-tasks approve {incident.run} --reject"
    )


def _when_escalated(incident: Incident) -> str:
    """Healthy again, it holds its key no more: a new failure is a new incident."""
    see = f"see what failed: ha-tasks run {incident.run}; " if incident.run is not None else ""
    mend = "mend it by hand, then" if incident.holds_key else "it is healthy again; once you know why"
    return f"{see}{mend}: ha-tasks ack I-{incident.id}"


def _when_blocked(incident: Incident, last_event: str) -> str:
    """A refusal says itself what ends it, if something does; else the recovery can be tried by hand."""
    if "ha-tasks " in last_event:
        return last_event[last_event.rindex("ha-tasks ") :].rstrip(".")
    return (
        f"see why: ha-tasks incidents {incident.id}; try again by hand: ha-tasks recover {incident.service}"
    )
