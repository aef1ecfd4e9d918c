"""The latest picture of each cluster's replication is kept, and a person is told of what lasts.

Nothing is recovered here: what a playbook can mend is found by the detector. A slot that a node left behind
which was taken out of the inventory is dropped, once a person could have been told of it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from ha_tasks.disaster_recovery.data_replication import DataReplication
from ha_tasks.model.cluster import ClusterState
from ha_tasks.model.incident import Incident, IncidentKind, IncidentState
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Service
from ha_tasks.model.replication import NodeRole, ReplicationReport
from ha_tasks.model.replication_findings import Finding, FindingCode
from ha_tasks.model.unproved import Doubt, doubts, edited, read_doubts
from ha_tasks.names import Counter
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.ledger import Ledger
from ha_tasks.ports.repositories import Incidents, Journal, ReplicationBook

LASTS = timedelta(seconds=15)
"""So long something must be wrong before a person is told: two looks, and no failover's own disorder."""
GAP = timedelta(seconds=60)
"""Between two looks that are further apart something may have come and gone."""
CHECK = "replication"


class ReplicationWatch:
    """Any number of processes may look: an incident's key is unique, and the latest picture stands."""

    def __init__(
        self,
        *,
        replication: DataReplication,
        book: ReplicationBook,
        incidents: Incidents,
        journal: Journal,
        ledger: Ledger,
        clock: Clock,
        actor: str,
        drop_slot: Callable[[Service, Finding], str] = lambda *_: "",
    ) -> None:
        """``drop_slot``: AbandonedSlots'."""
        self._drop_slot = drop_slot
        self._replication = replication
        self._book = book
        self._incidents = incidents
        self._journal = journal
        self._ledger = ledger
        self._clock = clock
        self._actor = actor

    def look(self, service: Service, put_back: str | None = None) -> Json:
        """Asks every server, keeps what it came to, opens and resolves incidents; answers the picture.

        ``put_back``: the primary on which another set than the recorded one was found, and has just been
        replaced. A failover is refused until the recorded set has what was committed by then.
        """
        report = self._replication.check(service)
        now = self._clock.now()
        since = self._since(service.name, report, now)
        told = report.to_json()
        for finding in told["findings"]:
            finding["since"] = since[finding["key"]].isoformat()
        told["doubts"] = [doubt.to_json() for doubt in self._doubts(report, put_back)]
        self._book.put(service.name, told, now)
        self._ledger.integrity(CHECK, service.name, report.ok, now)
        if not self._moving(report):
            self._tell(service, report, since, now)
        self._resolve(service.name, report, now)
        return told

    def _doubts(self, report: ReplicationReport, put_back: str | None) -> tuple[Doubt, ...]:
        _, before = self._book.latest().get(report.service, (None, {}))
        known = read_doubts(before)
        return doubts(report, known if put_back is None else (*known, edited(put_back)))

    def _since(self, service: str, report: ReplicationReport, now: datetime) -> dict[str, datetime]:
        """Since when each finding has been there at every look."""
        at, before = self._book.latest().get(service, (now, {}))
        known: dict[str, datetime] = {}
        if now - at <= GAP:
            known = {f["key"]: datetime.fromisoformat(f["since"]) for f in before.get("findings", ())}
        return {finding.key: known.get(finding.key, now) for finding in report.findings}

    def _moving(self, report: ReplicationReport) -> bool:
        """A recovery changes all of this, and what it leaves behind is found after it."""
        failing = report.state == ClusterState.FAILING
        return failing or any(run.plan.service == report.service for run in self._journal.active())

    def _tell(
        self, service: Service, report: ReplicationReport, since: dict[str, datetime], now: datetime
    ) -> None:
        for finding in report.findings:
            if finding.told and now - since[finding.key] >= LASTS:
                incident = self._open(service.name, finding, report.primary or "", since[finding.key], now)
                if finding.code is FindingCode.SLOT_ABANDONED:
                    self._note(incident, self._drop_slot(service, finding), now)

    def _note(self, incident: Incident, text: str, now: datetime) -> None:
        """Once, however often it is found again."""
        if text and all(entry.text != text for entry in self._incidents.timeline(incident.id)):
            self._incidents.note(incident.id, now, self._actor, text)

    def _open(self, service: str, finding: Finding, primary: str, since: datetime, now: datetime) -> Incident:
        place = finding.node or service
        incident, new = self._incidents.open(
            key=_key(service, finding),
            service=service,
            instance=finding.node or primary,
            kind=IncidentKind.REPLICATION_FAULT,
            severity=str(finding.severity),
            summary=f"{place}: {finding.problem}"
            if place == service
            else f"{place} of {service}: {finding.problem}",
            fault_at=since,
            now=now,
            actor=self._actor,
            evidence={"finding": str(finding.code), "remedy": finding.remedy},
        )
        if new:
            labels = {"service_name": service, "severity": str(finding.severity)}
            self._ledger.count(Counter.INCIDENTS, labels)
        return incident

    def _resolve(self, service: str, report: ReplicationReport, now: datetime) -> None:
        """What is no longer found, by a look that could have found it."""
        there = {_key(service, finding) for finding in report.findings}
        silent = {view.node for view in report.nodes if view.role is NodeRole.SILENT}
        for incident in self._incidents.current():
            ours = incident.kind is IncidentKind.REPLICATION_FAULT and incident.service == service
            # Of a server that cannot be asked nothing is known to be over.
            if ours and incident.key not in there and incident.instance not in silent:
                text = "it is not so any more"
                self._incidents.move(incident.id, IncidentState.RESOLVED, now, self._actor, text)


def _key(service: str, finding: Finding) -> str:
    return f"{service}/{IncidentKind.REPLICATION_FAULT}/{finding.key}"
