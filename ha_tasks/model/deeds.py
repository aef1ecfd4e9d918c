"""What is told to the audit chain of each change: the same words from every store. Pure.

Known fields only: a plan's arguments, captured states and outputs stay in the journal, secrets nowhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ha_tasks.model.audit import AuditVerb, state_verb
from ha_tasks.model.balancer import ServerState, WantedServer
from ha_tasks.model.cluster import Cluster
from ha_tasks.model.incident import Incident
from ha_tasks.model.maintenance import Window
from ha_tasks.model.plain import Json
from ha_tasks.model.revision import Revision
from ha_tasks.model.run import TERMINAL, Run, RunState
from ha_tasks.model.versions import Version

TOLD = TERMINAL | {RunState.COMPENSATING}
"""States of a run whose reaching is told; the attempts in the journal tell every step."""

DRILL = "drill"
"""The switch that is engaged as long as a drill goes on."""
DRILL_VERBS = {True: AuditVerb.DRILL_BEGUN, False: AuditVerb.DRILL_ENDED}
MANY = 3
SWITCH_VERBS = {True: AuditVerb.SWITCH_ENGAGED, False: AuditVerb.SWITCH_RELEASED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """An entry of the audit chain before it is one: see ``AuditEntry``."""

    actor: str
    verb: str
    object: str
    before: Json | None = None
    after: Json | None = None


def run_created(run: Run) -> Deed:
    """By whoever asked for it."""
    after = {
        **_of_run(run),
        "reason": run.reason,
        "summary": run.plan.summary,
        "playbook_sha256": run.plan.sha256,
        "revision": run.revision,
        "targets": list(run.plan.targets),
    }
    return Deed(actor=run.requested_by, verb=AuditVerb.RUN_CREATED, object=f"run {run.id}", after=after)


def run_approved(before: Run, after: Run, by: str, why: str) -> Deed:
    """A person said yes; from then on it may begin."""
    return Deed(
        actor=by,
        verb=AuditVerb.RUN_APPROVED,
        object=f"run {after.id}",
        before={"state": str(before.state)},
        after={**_of_run(after), "why": why},
    )


def run_settled(before: Run, after: Run) -> tuple[Deed, ...]:
    """By whoever held the lease; nothing when the run only went a step further."""
    if after.state is before.state or after.state not in TOLD:
        return ()
    return (run_moved(before, after, actor=before.lease_owner or after.lease_owner or ""),)


def run_moved(before: Run, after: Run, actor: str) -> Deed:
    """A run that reached another state."""
    return Deed(
        actor=actor,
        verb=state_verb("run", after.state),
        object=f"run {after.id}",
        before={"state": str(before.state), "position": before.position},
        after={**_of_run(after), "position": after.position, "error": after.error},
    )


def _of_run(run: Run) -> Json:
    return {
        "state": str(run.state),
        "service": run.plan.service,
        "scope": run.plan.scope,
        "playbook": run.plan.playbook,
        "incident": run.incident,
        "mode": run.mode,
        "requested_by": run.requested_by,
    }


def incident_opened(incident: Incident, actor: str) -> Deed:
    """By the observer whose call made it."""
    return Deed(
        actor=actor,
        verb=AuditVerb.INCIDENT_OPENED,
        object=f"I-{incident.id}",
        after={**_of_incident(incident), "fault_at": incident.fault_at.isoformat()},
    )


def incident_moved(before: Incident, after: Incident, actor: str, why: str) -> tuple[Deed, ...]:
    """Nothing when its state is what it was."""
    if after.state is before.state:
        return ()
    return (_incident(state_verb("incident", after.state), before, after, actor, why),)


def incident_acknowledged(before: Incident, after: Incident, actor: str, why: str) -> tuple[Deed, ...]:
    """What the person did, and the state that the incident has by it."""
    said = _incident(AuditVerb.INCIDENT_ACKNOWLEDGED, before, before, actor, why)
    return (said, *incident_moved(before, after, actor, why))


def incident_let_go(incident: Incident, actor: str, why: str) -> Deed:
    """Its failure is over, and another of the same key may open; its state stays."""
    return _incident(AuditVerb.INCIDENT_LET_GO, incident, incident, actor, why)


def _incident(verb: str, before: Incident, after: Incident, actor: str, why: str) -> Deed:
    return Deed(
        actor=actor,
        verb=verb,
        object=f"I-{after.id}",
        before={"state": str(before.state)},
        after={**_of_incident(after), "why": why},
    )


def _of_incident(incident: Incident) -> Json:
    return {
        "state": str(incident.state),
        "service": incident.service,
        "instance": incident.instance,
        "kind": str(incident.kind),
        "severity": incident.severity,
        "summary": incident.summary,
        "run": incident.run,
    }


def switch_set(
    name: str, scope: str, *, before: str | None, engaged: bool, actor: str, reason: str
) -> tuple[Deed, ...]:
    """``before``: who had engaged it. Nothing when a switch that was not engaged is released."""
    if before is None and not engaged:
        return ()
    verbs = DRILL_VERBS if name == DRILL else SWITCH_VERBS
    deed = Deed(
        actor=actor,
        verb=verbs[engaged],
        object=DRILL if name == DRILL else f"switch {name} {scope}".rstrip(),
        before={"engaged": before is not None, "by": before},
        after={"engaged": engaged, "scope": scope, "reason": reason},
    )
    return (deed,)


def drill_judged(number: int, scenario: str, verdict: str, actor: str) -> Deed:
    """Its report is kept under that number."""
    after = {"report": number, "scenario": scenario, "verdict": str(verdict)}
    return Deed(actor=actor, verb=AuditVerb.DRILL_JUDGED, object=DRILL, after=after)


def version_recorded(version: Version) -> Deed:
    """What a service serves from, by digests alone."""
    after = {"service": version.service, "files": dict(version.files), "reason": version.reason}
    return Deed(actor=version.actor, verb=AuditVerb.VERSION_RECORDED, object=_version(version), after=after)


def version_judged(before: Version, after: Version, actor: str) -> Deed:
    """Whether users were served well by it."""
    return Deed(
        actor=actor,
        verb=AuditVerb.VERSION_JUDGED,
        object=_version(after),
        before={"judgement": str(before.judgement)},
        after={"judgement": str(after.judgement), "why": after.why},
    )


def _version(version: Version) -> str:
    return f"version {version.no} of {version.service}"


def maintenance_added(window: Window) -> Deed:
    """By whoever announced it."""
    return _maintenance(AuditVerb.MAINTENANCE_ADDED, window, window.actor)


def maintenance_ended(window: Window, by: str) -> Deed:
    """By whoever ended it, not by its own time."""
    return _maintenance(AuditVerb.MAINTENANCE_ENDED, window, by)


def _maintenance(verb: str, window: Window, actor: str) -> Deed:
    return Deed(
        actor=actor,
        verb=verb,
        object=f"maintenance {window.id}",
        after={
            "scope": window.scope,
            "starts_at": window.starts_at and window.starts_at.isoformat(),
            "ends_at": window.ends_at and window.ends_at.isoformat(),
            "rule": window.rule and str(window.rule),
            "reason": window.reason,
        },
    )


def cool_downs_acknowledged(scope: str, playbooks: Sequence[str], actor: str) -> tuple[Deed, ...]:
    """Nothing when there was none."""
    if not playbooks:
        return ()
    deed = Deed(
        actor=actor,
        verb=AuditVerb.COOL_DOWN_ACKNOWLEDGED,
        object=f"cool-down {scope}",
        after={"playbooks": list(playbooks)},
    )
    return (deed,)


def cluster_registered(cluster: Cluster, actor: str) -> Deed:
    """From then on it is cared for."""
    return Deed(
        actor=actor,
        verb=AuditVerb.CLUSTER_REGISTERED,
        object=f"cluster {cluster.name}",
        after=_of_cluster(cluster),
    )


def cluster_advanced(before: Cluster, after: Cluster, actor: str) -> tuple[Deed, ...]:
    """Nothing when every field is what it was."""
    if after == before:
        return ()
    deed = Deed(
        actor=actor,
        verb=AuditVerb.CLUSTER_ADVANCED,
        object=f"cluster {after.name}",
        before=_of_cluster(before),
        after=_of_cluster(after),
    )
    return (deed,)


def _of_cluster(cluster: Cluster) -> Json:
    return {
        "epoch": cluster.epoch,
        "primary": cluster.primary,
        "state": str(cluster.state),
        "sets": [{"quorum": each.quorum, "members": list(each.members)} for each in cluster.sets],
        "unfinished": [{"epoch": u.epoch, "candidate": u.candidate} for u in cluster.unfinished],
    }


def servers_wanted(
    before: Sequence[WantedServer],
    changes: Mapping[tuple[str, str], ServerState],
    actor: str,
    reason: str,
    run: int | None = None,
) -> tuple[Deed, ...]:
    """``run``: that wants it so. Nothing when each is wanted as it was."""
    known = {(row.backend, row.server): row.state for row in before}
    new = {key: state for key, state in changes.items() if known.get(key) is not state}
    if not new:
        return ()
    deed = Deed(
        actor=actor,
        verb=AuditVerb.SERVERS_WANTED,
        object=f"servers {_shown(new)}",
        before={f"{b}/{s}": str(known[b, s]) for b, s in sorted(new) if (b, s) in known},
        after={
            "wanted": {f"{b}/{s}": str(new[b, s]) for b, s in sorted(new)},
            "reason": reason,
            "run": run,
        },
    )
    return (deed,)


def _shown(servers: Collection[tuple[str, str]]) -> str:
    """``web/web1``; of many only the backends: each stands in what is wanted."""
    if len(servers) > MANY:
        return " ".join(sorted({backend for backend, _ in servers}))
    return " ".join(f"{backend}/{server}" for backend, server in sorted(servers))


def revision_applied(before: Revision | None, after: Revision) -> Deed:
    """By the person who looked at the difference; the body itself is kept with the revision."""
    return Deed(
        actor=after.actor,
        verb=AuditVerb.REVISION_APPLIED,
        object=f"revision {after.no}",
        before=None if before is None else {"no": before.no, "sha256": before.sha256},
        after={
            "no": after.no,
            "sha256": after.sha256,
            "changes": [change.key for change in after.changes],
            "reason": after.reason,
        },
    )
