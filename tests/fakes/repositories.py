"""The state store in memory, with the semantics of the real one: fakes of every port of repositories."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import wraps
from threading import RLock
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from ha_tasks.errors import IdempotencyConflict, ScopeBusy, StaleEpoch, StaleFence
from ha_tasks.model.balancer import ServerState, WantedServer
from ha_tasks.model.cluster import Cluster, ClusterState, SyncSet, Unfinished
from ha_tasks.model.incident import ENDED, Incident, IncidentKind, IncidentState, TimelineEntry
from ha_tasks.model.message import Message, message_for
from ha_tasks.model.plain import Json
from ha_tasks.model.probe import ProbeOutcome
from ha_tasks.model.run import TERMINAL, Phase, Run, RunState, Step, claimed
from ha_tasks.names import Counter, Histogram
from ha_tasks.ports.ledger import Interval, Series, Worker
from ha_tasks.ports.repositories import Attempt, NewRun
from ha_tasks.store.outbox import Posting, owed
from ha_tasks.store.tallies import bounds_of

P = ParamSpec("P")
R = TypeVar("R")


class Locked(Protocol):
    """Anything with a lock."""

    lock: RLock


S = TypeVar("S", bound=Locked)


def one_at_a_time(verb: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Each verb is one transaction."""

    @wraps(verb)
    def locked(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.lock:
            return verb(self, *args, **kwargs)

    return locked


def plain(value: Any) -> Any:
    """What comes back out of a JSON column."""
    return json.loads(json.dumps(value))


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
    def posting(self) -> Posting:
        return Posting(
            due=self.due,
            offered_at=self.offered_at,
            sent_at=self.sent_at,
            lease_until=self.run.lease_until,
        )


class FakeJournal:
    """Runs in a dictionary."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.entries: dict[int, Entry] = {}
        self.fence = 0
        self.posts = 0

    @one_at_a_time
    def create(self, new: NewRun, now: datetime) -> tuple[Run, Message | None]:
        for entry in self.entries.values():
            if entry.key == new.idempotency_key:
                if entry.run.plan != new.plan:
                    raise IdempotencyConflict(new.idempotency_key)
                return entry.run, None
        busy = [e.run.id for e in self.entries.values() if e.active and e.run.plan.scope == new.plan.scope]
        if busy:
            raise ScopeBusy(f"run {busy[0]} is active on {new.plan.scope}")
        run = Run(
            id=len(self.entries) + 1,
            incident=new.incident,
            plan=new.plan,
            state=RunState.PENDING,
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
        return run, entry.message

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

    def _must_hold(self, run: int, fence: int) -> Entry:
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
        entry = self._must_hold(run, fence)
        entry.run = entry.run.with_step(replace(entry.run.step(step), captured=plain(captured)))

    @one_at_a_time
    def settle(
        self, before: Run, after: Run, fence: int, *, outcome: str, error: str, due: datetime | None
    ) -> Message | None:
        entry = self._must_hold(before.id, fence)
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
        return entry.message if ended is None and due is None else None

    @one_at_a_time
    def sweep(self, now: datetime, unsent_after_s: float, silent_after_s: float) -> tuple[Message, ...]:
        found = [
            e
            for e in self.entries.values()
            if e.active and owed(e.posting, now, unsent_after_s, silent_after_s)
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

    def __init__(self) -> None:
        self.lock = RLock()
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
    def note(self, incident: int, now: datetime, actor: str, text: str) -> None:
        self._say(self.incidents[incident].id, now, actor, text)

    @one_at_a_time
    def timeline(self, incident: int) -> tuple[TimelineEntry, ...]:
        return tuple(sorted((e for i, e in self.lines if i == incident), key=lambda e: e.at))

    @one_at_a_time
    def let_go(self, incident: int, now: datetime, actor: str, text: str) -> None:
        old = self.incidents[incident]
        if old.state is IncidentState.ESCALATED and old.holds_key:
            self.incidents[incident] = replace(old, holds_key=False)
            self._say(incident, now, actor, text)

    @one_at_a_time
    def acknowledge(self, incident: int, now: datetime, actor: str) -> Incident:
        if self.incidents[incident].state is not IncidentState.ESCALATED:
            return self.incidents[incident]
        return self.move(incident, IncidentState.RESOLVED, now, actor, f"acknowledged by {actor}")


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

    def __init__(self) -> None:
        self.lock = RLock()
        self.clusters: dict[str, Cluster] = {}

    @one_at_a_time
    def get(self, name: str) -> Cluster:
        return self.clusters[name]

    @one_at_a_time
    def register(self, cluster: Cluster, now: datetime) -> Cluster:
        return self.clusters.setdefault(cluster.name, cluster)

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
    ) -> Cluster:
        old = self.clusters[name]
        if old.epoch != expected_epoch:
            raise StaleEpoch(f"{name} is at epoch {old.epoch}, not {expected_epoch}")
        self.clusters[name] = replace(
            old,
            epoch=old.epoch + new_epoch,
            state=old.state if state is None else state,
            primary=old.primary if primary is None else primary,
            sets=old.sets if sets is None else tuple(sets),
            unfinished=old.unfinished if unfinished is None else tuple(unfinished),
        )
        return self.clusters[name]


class FakeWantedServers:
    """Wanted servers in a dictionary."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.wanted: dict[tuple[str, str], WantedServer] = {}
        self.generation = 0

    @one_at_a_time
    def all(self) -> tuple[WantedServer, ...]:
        return tuple(server for _, server in sorted(self.wanted.items()))

    @one_at_a_time
    def want(
        self, changes: Mapping[tuple[str, str], ServerState], reason: str, now: datetime
    ) -> tuple[WantedServer, ...]:
        self.generation += bool(changes)
        for (backend, server), state in changes.items():
            self.wanted[backend, server] = WantedServer(
                backend=backend, server=server, state=state, generation=self.generation, reason=reason
            )
        return self.all()


class FakeLimits:
    """Cool-downs, switches and refusals in dictionaries."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.cooldowns: dict[tuple[str, str], datetime] = {}
        self.switches: dict[tuple[str, str], str] = {}
        self.refusals: dict[tuple[int, str], int] = {}

    @one_at_a_time
    def cool(self, scope: str, playbook: str, until: datetime) -> None:
        self.cooldowns[scope, playbook] = until

    @one_at_a_time
    def cooling(self, scope: str, playbook: str) -> datetime | None:
        return self.cooldowns.get((scope, playbook))

    @one_at_a_time
    def acknowledge(self, scope: str, now: datetime, actor: str) -> tuple[str, ...]:
        ended = sorted(p for (s, p), until in self.cooldowns.items() if s == scope and until > now)
        for playbook in ended:
            del self.cooldowns[scope, playbook]
        return tuple(ended)

    @one_at_a_time
    def switch(self, name: str, scope: str = "") -> str | None:
        return self.switches.get((name, scope))

    @one_at_a_time
    def set_switch(
        self, name: str, engaged: bool, actor: str, reason: str, now: datetime, *, scope: str = ""
    ) -> None:
        self.switches.pop((name, scope), None)
        if engaged:
            self.switches[name, scope] = actor

    @one_at_a_time
    def refused(self, incident: int, guard: str, detail: str, now: datetime) -> bool:
        times = self.refusals.get((incident, guard), 0) + 1
        self.refusals[incident, guard] = times
        return times == 1


class FakeLedger:
    """Counters, intervals and heartbeats in dictionaries."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.counters: dict[tuple[str, str], float] = {}
        self.histograms: dict[tuple[str, str], list[float]] = {}
        self.stretches: list[Interval] = []
        self.judged: dict[str, tuple[float, datetime]] = {}
        self.checks: dict[tuple[str, str], tuple[bool, datetime]] = {}
        self.alive: dict[str, Worker] = {}

    @one_at_a_time
    def count(self, name: str, labels: Mapping[str, str], by: float = 1.0) -> None:
        key = str(name), json.dumps(dict(labels), sort_keys=True)
        self.counters[key] = self.counters.get(key, 0.0) + by

    @one_at_a_time
    def observe(self, name: str, labels: Mapping[str, str], value: float) -> None:
        key = str(name), json.dumps(dict(labels), sort_keys=True)
        self.histograms.setdefault(key, []).append(value)

    @one_at_a_time
    def series(self) -> tuple[Series, ...]:
        counters = (
            Series(name=name, labels=json.loads(labels), value=value)
            for (name, labels), value in sorted(self.counters.items())
        )
        histograms = (
            Series(
                name=name,
                labels=json.loads(labels),
                value=float(len(values)),
                buckets={bound: sum(v <= bound for v in values) for bound in bounds_of(name)},
                total=sum(values),
            )
            for (name, labels), values in sorted(self.histograms.items())
        )
        return (*counters, *histograms)

    @one_at_a_time
    def service_state(
        self,
        service: str,
        state: str,
        score: float | None,
        at: datetime,
        *,
        judged_at: datetime | None = None,
    ) -> bool:
        if score is not None:
            self.judged[service] = score, judged_at or at
        own = [i for i in self.stretches if i.service == service]
        if own and own[-1].state == state:
            return False
        self.stretches = [i for i in self.stretches if i.service != service]
        own = [i for i in own if i.since < at]
        if own:
            own[-1] = replace(own[-1], until=at)
        if own and own[-1].state == state:
            own[-1] = replace(own[-1], until=None)
        else:
            own.append(Interval(service=service, state=state, since=at, until=None))
        self.stretches += own
        return True

    @one_at_a_time
    def intervals(self, since: datetime) -> tuple[Interval, ...]:
        reaching = (i for i in self.stretches if i.until is None or i.until > since)
        return tuple(sorted(reaching, key=lambda i: (i.since, i.service)))

    @one_at_a_time
    def scores(self) -> Mapping[str, tuple[float, datetime]]:
        return dict(self.judged)

    @one_at_a_time
    def integrity(self, check: str, target: str, ok: bool, at: datetime, detail: str = "") -> None:
        self.checks[check, target] = ok, at

    @one_at_a_time
    def integrity_results(self) -> tuple[tuple[str, str, bool, datetime], ...]:
        return tuple((check, target, *result) for (check, target), result in sorted(self.checks.items()))

    @one_at_a_time
    def heartbeat(self, worker: Worker) -> None:
        self.alive[worker.name] = worker

    @one_at_a_time
    def workers(self, since: datetime) -> tuple[Worker, ...]:
        return tuple(w for _, w in sorted(self.alive.items()) if w.heartbeat_at >= since)


class FakeScheduleBook:
    """Latest successes in a dictionary."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.latest: dict[str, datetime] = {}

    @one_at_a_time
    def succeeded(self, entry: str, at: datetime) -> None:
        self.latest[entry] = max(at, self.latest.get(entry, at))

    @one_at_a_time
    def successes(self) -> Mapping[str, datetime]:
        return dict(self.latest)


class FakeDrillBook:
    """Reports in a list."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.reports: list[tuple[int, datetime, Json]] = []

    @one_at_a_time
    def add(self, scenario: str, verdict: str, body: Json, at: datetime) -> int:
        self.reports.append((len(self.reports) + 1, at, plain(body)))
        return len(self.reports)

    @one_at_a_time
    def latest(self, limit: int = 20) -> tuple[tuple[int, datetime, Json], ...]:
        return tuple(reversed(self.reports))[:limit]


class FakeStore:
    """All of them, under the attribute names of the real ``Store``."""

    def __init__(self) -> None:
        self.journal = FakeJournal()
        self.incidents = FakeIncidents()
        self.ledger = FakeLedger()
        self.observations = FakeObservations(self.ledger)
        self.clusters = FakeClusters()
        self.wanted = FakeWantedServers()
        self.limits = FakeLimits()
        self.schedule = FakeScheduleBook()
        self.drills = FakeDrillBook()
