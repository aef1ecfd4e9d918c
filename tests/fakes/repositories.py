"""The state store in memory, with the semantics of the real one: fakes of every port of repositories."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from threading import RLock

from ha_tasks.errors import IdempotencyConflict, ScopeBusy, StaleEpoch, StaleFence
from ha_tasks.model.balancer import ServerState, WantedServer
from ha_tasks.model.cluster import Cluster, ClusterState, SyncSet, Unfinished
from ha_tasks.model.deeds import (
    cluster_advanced,
    cluster_registered,
    drill_judged,
    incident_acknowledged,
    incident_let_go,
    incident_moved,
    incident_opened,
    run_approved,
    run_created,
    run_moved,
    run_settled,
    servers_wanted,
)
from ha_tasks.model.incident import ENDED, Incident, IncidentKind, IncidentState, TimelineEntry
from ha_tasks.model.measures import measured
from ha_tasks.model.message import Message, message_for
from ha_tasks.model.plain import Json
from ha_tasks.model.playbook import Acceptance
from ha_tasks.model.probe import ProbeOutcome
from ha_tasks.model.run import (
    TERMINAL,
    Phase,
    Run,
    RunState,
    Step,
    StepState,
    approved,
    broken_off,
    called_off,
    claimed,
    leaves_nothing,
    overdue,
)
from ha_tasks.names import Counter, Histogram
from ha_tasks.ports.repositories import Attempt, NewRun, Reign, Warrant
from ha_tasks.store.outbox import Posting, owed
from tests.fakes.audit import FakeAudit
from tests.fakes.events import FakeEventCursors
from tests.fakes.health import FakeHealthBook
from tests.fakes.identity import FakeStoreIdentity
from tests.fakes.leadership import FakeLeadership, FakeTickBook
from tests.fakes.ledger import FakeLedger
from tests.fakes.limits import FakeLimits
from tests.fakes.locked import one_at_a_time, plain
from tests.fakes.maintenance import FakeMaintenanceBook
from tests.fakes.registrations import FakeRegistrations
from tests.fakes.requests import FakeRequestBook
from tests.fakes.revisions import FakeRevisions
from tests.fakes.versions import FakeVersions


@dataclass
class Entry:
    """A run with what the journal keeps beside it."""

    run: Run
    key: str
    message: Message
    offered_at: datetime | None
    sent_at: datetime | None = None
    due: datetime | None = None
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def active(self) -> bool:
        return self.run.state not in TERMINAL

    @property
    def waits(self) -> bool:
        return self.run.state is RunState.AWAITING_APPROVAL

    @property
    def posting(self) -> Posting:
        return Posting(
            due=self.due,
            offered_at=self.offered_at,
            sent_at=self.sent_at,
            lease_until=self.run.lease_until,
        )


class FakeJournal:
    """Runs in a dictionary."""

    def __init__(self, audit: FakeAudit | None = None, ledger: FakeLedger | None = None) -> None:
        self.lock = RLock()
        self.audit = audit or FakeAudit()
        self.ledger = ledger or FakeLedger()
        self.entries: dict[int, Entry] = {}
        self.fence = 0
        self.posts = 0

    @one_at_a_time
    def create(self, new: NewRun, now: datetime) -> tuple[Run, Message | None]:
        for entry in self.entries.values():
            if entry.key == new.idempotency_key:
                if replace(entry.run.plan, situation=new.plan.situation) != new.plan:
                    raise IdempotencyConflict(new.idempotency_key)
                return entry.run, None
        busy = [e.run.id for e in self.entries.values() if e.active and e.run.plan.scope == new.plan.scope]
        if busy:
            raise ScopeBusy(f"run {busy[0]} is active on {new.plan.scope}")
        run = Run(
            id=len(self.entries) + 1,
            incident=new.incident,
            plan=new.plan,
            state=RunState.PENDING if new.approval_until is None else RunState.AWAITING_APPROVAL,
            phase=Phase.DO,
            position=1,
            fence=0,
            steps=tuple(Step(planned=planned) for planned in new.plan.steps),
            mode=new.mode,
            requested_by=new.requested_by,
            reason=new.reason,
            created_at=now,
            updated_at=now,
            revision=new.revision,
            approval_until=new.approval_until,
            deadline=new.deadline,
        )
        entry = Entry(run=run, key=new.idempotency_key, message=self._post(run), offered_at=now)
        self.entries[run.id] = entry
        self.audit.record(now, run_created(run))
        return run, None if entry.waits else entry.message

    @one_at_a_time
    def approve(
        self, run: int, by: str, now: datetime, why: str = "", accepts: Acceptance | None = None
    ) -> Message | None:
        entry = self.entries.get(run)
        if entry is None or not entry.waits or overdue(entry.run, now):
            return None
        before, entry.run = entry.run, approved(entry.run, by, now, accepts)
        entry.message, entry.offered_at = self._post(entry.run), now
        self.audit.record(now, run_approved(before, entry.run, by, why))
        return entry.message

    @one_at_a_time
    def call_off(self, run: int, why: str, now: datetime, by: str) -> Run | None:
        entry = self.entries.get(run)
        if entry is None or not entry.active or entry.run.fence:
            return None
        before, entry.run = entry.run, called_off(entry.run, why, now)
        self.audit.record(now, run_moved(before, entry.run, by))
        return entry.run

    @one_at_a_time
    def break_off(self, run: int, why: str, now: datetime, by: str) -> Run | None:
        entry = self.entries.get(run)
        if entry is None or not entry.run.fence or not leaves_nothing(entry.run):
            return None
        before, entry.run = entry.run, broken_off(entry.run, now, why)
        entry.attempts = [self._lost(attempt, now) for attempt in entry.attempts]
        self.audit.record(now, run_moved(before, entry.run, by))
        return entry.run

    @one_at_a_time
    def last_done(self, service: str, action: str) -> datetime | None:
        ends = [
            step.ended_at
            for entry in self.entries.values()
            for step in entry.run.steps
            if entry.run.plan.service == service and step.action == action and step.state is StepState.DONE
        ]
        return max((at for at in ends if at is not None), default=None)

    def _post(self, run: Run) -> Message:
        self.posts += 1
        return replace(message_for(run), id=self.posts)

    @one_at_a_time
    def get(self, run: int) -> Run:
        return self.entries[run].run

    @one_at_a_time
    def recent(self, limit: int = 20) -> tuple[Run, ...]:
        return tuple(e.run for e in reversed(self.entries.values()))[:limit]

    @one_at_a_time
    def active(self) -> tuple[Run, ...]:
        return tuple(e.run for e in self.entries.values() if e.active)

    @one_at_a_time
    def claim(
        self, run: int, step: int, phase: str, *, owner: str, now: datetime, lease_s: float
    ) -> Run | None:
        entry = self.entries.get(run)
        if entry is None or not self._takeable(entry, step, phase, now):
            return None
        self.fence += 1
        entry.attempts = [self._lost(attempt, now) for attempt in entry.attempts]
        entry.run = replace(
            claimed(entry.run, now),
            fence=self.fence,
            lease_owner=owner,
            lease_until=now + timedelta(seconds=lease_s),
        )
        entry.due = None
        entry.attempts.append(
            Attempt(
                step=step,
                phase=phase,
                fence=self.fence,
                worker=owner,
                started_at=now,
                ended_at=None,
                outcome="running",
                error="",
            )
        )
        return entry.run

    def _takeable(self, entry: Entry, step: int, phase: str, now: datetime) -> bool:
        run = entry.run
        return (
            entry.active
            and not entry.waits
            and (run.position, run.phase) == (step, phase)
            and (run.lease_until is None or run.lease_until <= now)
            and (entry.due is None or entry.due <= now)
        )

    def _lost(self, attempt: Attempt, now: datetime) -> Attempt:
        return attempt if attempt.ended_at else replace(attempt, ended_at=now, outcome="lost")

    def _held(self, run: int, fence: int) -> Entry | None:
        entry = self.entries.get(run)
        held = entry and entry.active and entry.run.fence == fence and entry.run.lease_owner is not None
        return entry if held else None

    def must_hold(self, run: int, fence: int) -> Entry:
        entry = self._held(run, fence)
        if entry is None:
            raise StaleFence(f"fence {fence} is no longer that of run {run}")
        return entry

    @one_at_a_time
    def next_fence(self, now: datetime) -> int:
        self.fence += 1
        return self.fence

    @one_at_a_time
    def raise_fence(self, above: int) -> None:
        self.fence = max(self.fence, above)

    @one_at_a_time
    def renew(self, run: int, fence: int, now: datetime, lease_s: float) -> bool:
        entry = self._held(run, fence)
        if entry is None:
            return False
        entry.run = replace(entry.run, lease_until=now + timedelta(seconds=lease_s))
        return True

    @one_at_a_time
    def capture(self, run: int, fence: int, step: int, captured: Json) -> None:
        entry = self.must_hold(run, fence)
        entry.run = entry.run.with_step(replace(entry.run.step(step), captured=plain(captured)))

    @one_at_a_time
    def tell(self, run: int, fence: int, step: int, progress: Json) -> None:
        entry = self.must_hold(run, fence)
        entry.run = entry.run.with_step(replace(entry.run.step(step), output=plain(progress)))

    @one_at_a_time
    def settle(
        self, before: Run, after: Run, fence: int, *, outcome: str, error: str, due: datetime | None
    ) -> Message | None:
        entry = self.must_hold(before.id, fence)
        ended = after.updated_at if after.state in TERMINAL else None
        entry.run = replace(
            after,
            steps=tuple(
                replace(new, captured=old.captured, output=plain(new.output))
                for new, old in zip(after.steps, entry.run.steps, strict=True)
            ),
            fence=fence,
            lease_owner=None,
            lease_until=None,
            ended_at=ended and (after.ended_at or ended),
        )
        entry.attempts = [
            replace(a, ended_at=after.updated_at, outcome=outcome, error=error) if a.fence == fence else a
            for a in entry.attempts
        ]
        entry.message, entry.due, entry.sent_at = self._post(entry.run), due, None
        entry.offered_at = after.updated_at if due is None else None
        for measure in measured(before, after):
            add = self.ledger.observe if isinstance(measure.name, Histogram) else self.ledger.count
            add(measure.name, measure.labels, measure.value)
        self.audit.record(after.updated_at, *run_settled(before, after))
        return entry.message if ended is None and due is None else None

    @one_at_a_time
    def sweep(self, now: datetime, unsent_after_s: float, silent_after_s: float) -> tuple[Message, ...]:
        found = [
            e
            for e in self.entries.values()
            if e.active and not e.waits and owed(e.posting, now, unsent_after_s, silent_after_s)
        ]
        for entry in found:
            entry.offered_at, entry.sent_at = now, None
        return tuple(entry.message for entry in found)

    @one_at_a_time
    def sent(self, messages: Sequence[Message], now: datetime) -> None:
        ids = {message.id for message in messages}
        for entry in self.entries.values():
            if entry.message.id in ids:
                entry.sent_at = now

    @one_at_a_time
    def attempts(self, run: int) -> tuple[Attempt, ...]:
        return tuple(self.entries[run].attempts) if run in self.entries else ()

    @one_at_a_time
    def started_since(self, since: datetime) -> int:
        return sum(e.run.created_at >= since and e.run.mode != "drill" for e in self.entries.values())


class FakeIncidents:
    """Incidents in a dictionary."""

    def __init__(self, audit: FakeAudit | None = None) -> None:
        self.lock = RLock()
        self.audit = audit or FakeAudit()
        self.incidents: dict[int, Incident] = {}
        self.lines: list[tuple[int, TimelineEntry]] = []

    @one_at_a_time
    def open(
        self,
        *,
        key: str,
        service: str,
        instance: str,
        kind: IncidentKind,
        severity: str,
        summary: str,
        fault_at: datetime,
        now: datetime,
        actor: str,
        evidence: Json,
    ) -> tuple[Incident, bool]:
        holder = self._holder(key)
        if holder is not None:
            return holder, False
        incident = Incident(
            id=len(self.incidents) + 1,
            key=key,
            service=service,
            instance=instance,
            kind=kind,
            state=IncidentState.OPEN,
            severity=severity,
            summary=summary,
            fault_at=fault_at,
            detected_at=now,
            evidence=plain(evidence),
        )
        self.incidents[incident.id] = incident
        self._say(incident.id, now, actor, f"opened: {summary}")
        self.audit.record(now, incident_opened(incident, actor))
        return incident, True

    def _holder(self, key: str) -> Incident | None:
        return next((i for i in self.incidents.values() if i.key == key and i.holds_key), None)

    def _say(self, incident: int, at: datetime, actor: str, text: str) -> None:
        self.lines.append((incident, TimelineEntry(at=at, actor=actor, text=text)))

    @one_at_a_time
    def get(self, incident: int) -> Incident:
        return self.incidents[incident]

    @one_at_a_time
    def current(self) -> tuple[Incident, ...]:
        return tuple(i for i in self.incidents.values() if i.state is not IncidentState.RESOLVED)

    @one_at_a_time
    def recent(self, limit: int = 20) -> tuple[Incident, ...]:
        return tuple(reversed(self.incidents.values()))[:limit]

    @one_at_a_time
    def move(
        self,
        incident: int,
        state: IncidentState,
        now: datetime,
        actor: str,
        text: str,
        *,
        run: int | None = None,
        only_from: Collection[IncidentState] | None = None,
    ) -> Incident:
        old = self.incidents[incident]
        if only_from is not None and old.state not in only_from:
            return old
        if not self._movable(old, state):
            return old
        new = replace(old, state=state, run=old.run if run is None else run)
        if state is not old.state:
            self._say(incident, now, actor, f"{state}: {text}")
            new = self._entered(new, now)
        self.incidents[incident] = new
        self.audit.record(now, *incident_moved(old, new, actor, text))
        return new

    def _movable(self, old: Incident, state: IncidentState) -> bool:
        if old.state is IncidentState.RESOLVED:
            return False
        return state in ENDED or old.holds_key or self._holder(old.key) is None

    def _entered(self, incident: Incident, now: datetime) -> Incident:
        if incident.state is IncidentState.RESOLVED:
            return replace(incident, resolved_at=now, holds_key=False)
        if incident.state is IncidentState.MITIGATED:
            incident = replace(incident, mitigated_at=incident.mitigated_at or now)
        return incident if incident.state in ENDED else replace(incident, holds_key=True)

    @one_at_a_time
    def attach(
        self,
        incident: int,
        parent: int,
        now: datetime,
        actor: str,
        text: str,
        *,
        only_from: Collection[IncidentState],
    ) -> Incident:
        old, above = self.incidents[incident], self.incidents[parent]
        known = old.parent == parent and old.state is IncidentState.SUPPRESSED
        if known or old.state not in only_from:
            return old
        self.incidents[incident] = replace(old, parent=parent)
        if old.parent != parent:
            self._say(above.id, now, actor, f"I-{incident} ({old.instance} of {old.service}) waits for this")
        return self.move(incident, IncidentState.SUPPRESSED, now, actor, text)

    @one_at_a_time
    def note(self, incident: int, now: datetime, actor: str, text: str, *, once: bool = False) -> None:
        known = self.incidents[incident].id
        if not once or all((known, text) != (number, line.text) for number, line in self.lines):
            self._say(known, now, actor, text)

    @one_at_a_time
    def timeline(self, incident: int) -> tuple[TimelineEntry, ...]:
        return tuple(sorted((e for i, e in self.lines if i == incident), key=lambda e: e.at))

    @one_at_a_time
    def let_go(self, incident: int, now: datetime, actor: str, text: str) -> None:
        old = self.incidents[incident]
        if old.state is IncidentState.ESCALATED and old.holds_key:
            self.incidents[incident] = replace(old, holds_key=False)
            self._say(incident, now, actor, text)
            self.audit.record(now, incident_let_go(old, actor, text))

    @one_at_a_time
    def acknowledge(self, incident: int, now: datetime, actor: str) -> Incident:
        old, text = self.incidents[incident], f"acknowledged by {actor}"
        if old.state is not IncidentState.ESCALATED:
            return old
        said, *_ = incident_acknowledged(old, old, actor, text)
        self.audit.record(now, said)
        return self.move(incident, IncidentState.RESOLVED, now, actor, text)


class FakeObservations:
    """Outcomes in a list; their counters go to a ledger."""

    def __init__(self, ledger: FakeLedger | None = None) -> None:
        self.lock = RLock()
        self.outcomes: list[ProbeOutcome] = []
        self.ledger = ledger or FakeLedger()

    @one_at_a_time
    def record(self, outcomes: Sequence[ProbeOutcome]) -> None:
        for outcome in outcomes:
            self.outcomes.append(replace(outcome, facts=plain(dict(outcome.facts))))
            labels = {"service_name": outcome.target.service, "probe": outcome.probe}
            self.ledger.count(Counter.PROBES, labels)
            self.ledger.observe(Histogram.PROBE_DURATION, {"probe": outcome.probe}, outcome.rtt_s)
            if not outcome.ok:
                self.ledger.count(Counter.PROBE_FAILURES, {**labels, "reason": str(outcome.kind)})

    @one_at_a_time
    def since(self, moment: datetime, service: str | None = None) -> tuple[ProbeOutcome, ...]:
        found = (o for o in self.outcomes if o.sent_at >= moment and service in (None, o.target.service))
        return tuple(sorted(found, key=lambda o: o.sent_at))

    @one_at_a_time
    def prune(self, before: datetime) -> int:
        kept = [o for o in self.outcomes if o.sent_at >= before]
        gone = len(self.outcomes) - len(kept)
        self.outcomes = kept
        return gone


class FakeClusters:
    """Clusters in a dictionary."""

    def __init__(self, audit: FakeAudit | None = None, journal: FakeJournal | None = None) -> None:
        self.lock = RLock()
        self.audit = audit or FakeAudit()
        self.journal = journal
        self.clusters: dict[str, Cluster] = {}

    @one_at_a_time
    def get(self, name: str) -> Cluster:
        return self.clusters[name]

    @one_at_a_time
    def register(self, cluster: Cluster, now: datetime) -> Cluster:
        if cluster.name not in self.clusters:
            self.clusters[cluster.name] = cluster
            self.audit.record(now, cluster_registered(cluster, ""))
        return self.clusters[cluster.name]

    @one_at_a_time
    def advance(
        self,
        name: str,
        expected_epoch: int,
        now: datetime,
        *,
        new_epoch: bool,
        state: ClusterState | None = None,
        primary: str | None = None,
        sets: Sequence[SyncSet] | None = None,
        unfinished: Sequence[Unfinished] | None = None,
        under: Warrant | None = None,
    ) -> Cluster:
        if under is not None and self.journal is not None:
            self.journal.must_hold(under.run, under.fence)
        old = self.must_reign(name, expected_epoch)
        self.clusters[name] = replace(
            old,
            epoch=old.epoch + new_epoch,
            state=old.state if state is None else state,
            primary=old.primary if primary is None else primary,
            sets=old.sets if sets is None else tuple(sets),
            unfinished=old.unfinished if unfinished is None else tuple(unfinished),
        )
        self.audit.record(now, *cluster_advanced(old, self.clusters[name], ""))
        return self.clusters[name]

    def must_reign(self, name: str, epoch: int) -> Cluster:
        cluster = self.clusters[name]
        if cluster.epoch != epoch:
            raise StaleEpoch(f"{name} is at epoch {cluster.epoch}, not {epoch}")
        return cluster


class FakeWantedServers:
    """Wanted servers in a dictionary. Without a journal every warrant holds, without clusters each reign."""

    def __init__(
        self,
        journal: FakeJournal | None = None,
        audit: FakeAudit | None = None,
        clusters: FakeClusters | None = None,
    ) -> None:
        self.lock = RLock()
        self.audit = audit or FakeAudit()
        self.journal = journal
        self.clusters = clusters
        self.wanted: dict[tuple[str, str], WantedServer] = {}
        self.generation = 0

    @one_at_a_time
    def all(self) -> tuple[WantedServer, ...]:
        return tuple(server for _, server in sorted(self.wanted.items()))

    @one_at_a_time
    def want(
        self,
        changes: Mapping[tuple[str, str], ServerState],
        reason: str,
        now: datetime,
        under: Warrant | Reign | None = None,
    ) -> tuple[WantedServer, ...]:
        if isinstance(under, Warrant) and self.journal is not None:
            self.journal.must_hold(under.run, under.fence)
        if isinstance(under, Reign) and self.clusters is not None:
            self.clusters.must_reign(under.cluster, under.epoch)
        self.generation += bool(changes)
        run = under.run if isinstance(under, Warrant) else None
        self.audit.record(now, *servers_wanted(self.all(), changes, "", reason, run))
        for (backend, server), state in changes.items():
            self.wanted[backend, server] = WantedServer(
                backend=backend, server=server, state=state, generation=self.generation, reason=reason
            )
        return self.all()


class FakeScheduleBook:
    """Latest successes in a dictionary."""

    def __init__(self, ticks: FakeTickBook | None = None) -> None:
        self.lock = RLock()
        self.ticks = ticks
        self.latest: dict[str, datetime] = {}

    @one_at_a_time
    def succeeded(self, entry: str, at: datetime) -> None:
        self.latest[entry] = max(at, self.latest.get(entry, at))

    @one_at_a_time
    def successes(self) -> Mapping[str, datetime]:
        return dict(self.latest)

    @one_at_a_time
    def last_tick(self) -> datetime | None:
        ticks = self.ticks.newest.values() if self.ticks else ()
        return max((tick.changed_at for tick in ticks), default=None)


class FakeReplicationBook:
    """Pictures in a dict."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.pictures: dict[str, tuple[datetime, Json]] = {}

    @one_at_a_time
    def put(self, service: str, body: Json, at: datetime) -> None:
        if service not in self.pictures or self.pictures[service][0] <= at:
            self.pictures[service] = (at, plain(body))

    @one_at_a_time
    def latest(self) -> Mapping[str, tuple[datetime, Json]]:
        return dict(sorted(self.pictures.items()))


class FakeDrillBook:
    """Reports in a list."""

    def __init__(self, audit: FakeAudit | None = None) -> None:
        self.lock = RLock()
        self.audit = audit or FakeAudit()
        self.reports: list[tuple[int, datetime, Json]] = []

    @one_at_a_time
    def add(self, scenario: str, verdict: str, body: Json, at: datetime) -> int:
        self.reports.append((len(self.reports) + 1, at, plain(body)))
        self.audit.record(at, drill_judged(len(self.reports), scenario, verdict, ""))
        return len(self.reports)

    @one_at_a_time
    def latest(self, limit: int = 20) -> tuple[tuple[int, datetime, Json], ...]:
        return tuple(reversed(self.reports))[:limit]


class FakeStore:
    """All of them, under the attribute names of the real ``Store``."""

    def __init__(self) -> None:
        self.audit = FakeAudit()
        self.revisions = FakeRevisions(self.audit)
        self.ledger = FakeLedger()
        self.journal = FakeJournal(self.audit, self.ledger)
        self.incidents = FakeIncidents(self.audit)
        self.observations = FakeObservations(self.ledger)
        self.clusters = FakeClusters(self.audit, self.journal)
        self.wanted = FakeWantedServers(self.journal, self.audit, self.clusters)
        self.limits = FakeLimits(self.audit)
        self.versions = FakeVersions(self.audit, self.journal.must_hold)
        self.maintenance = FakeMaintenanceBook(self.audit)
        self.registrations = FakeRegistrations()
        self.leadership = FakeLeadership()
        self.ticks = FakeTickBook(self.leadership, self.ledger)
        self.schedule = FakeScheduleBook(self.ticks)
        self.drills = FakeDrillBook(self.audit)
        self.replication = FakeReplicationBook()
        self.health = FakeHealthBook()
        self.requests = FakeRequestBook(self.journal)
        self.cursors = FakeEventCursors()
        self.identity = FakeStoreIdentity(
            "a-store", fence=lambda: self.journal.fence, clusters=self.clusters.clusters
        )
