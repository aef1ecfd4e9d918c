"""The state store: each verb is one transaction. Raises StoreUnreachable (retryable).

The journal in SQL is the truth about runs; the broker only carries hints.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ha_tasks.model.balancer import ServerState, WantedServer
from ha_tasks.model.cluster import Cluster, ClusterState, SyncSet, Unfinished
from ha_tasks.model.incident import Incident, IncidentKind, IncidentState, TimelineEntry
from ha_tasks.model.message import Message
from ha_tasks.model.plain import Json
from ha_tasks.model.playbook import Acceptance, Plan
from ha_tasks.model.probe import ProbeOutcome
from ha_tasks.model.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A request for a run."""

    plan: Plan
    incident: int | None
    mode: str
    requested_by: str
    reason: str
    idempotency_key: str
    revision: int | None = None
    """Of the inventory, under which it was planned."""
    approval_until: datetime | None = None
    """It waits for a person until then; None: it may begin at once."""
    deadline: datetime | None = None
    """Not begun by then, it is not begun at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Warrant:
    """By what right an executor changes something: the fence of its claim of that run."""

    run: int
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reign:
    """By what right whoever keeps a cluster as recorded changes something: the epoch that it looked at."""

    cluster: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One execution of one phase of a step, as it is kept for the record."""

    step: int
    phase: str
    fence: int
    worker: str
    started_at: datetime
    ended_at: datetime | None
    outcome: str
    error: str


class Journal(Protocol):
    """Runs, their steps, the outbox."""

    def create(self, new: NewRun, now: datetime) -> tuple[Run, Message | None]:
        """The run and its first message, in one transaction with the outbox row.

        Same key and same plan: the run that exists and None. Raises IdempotencyConflict (same key,
        other plan) or ScopeBusy (a unique index: another run is active on the scope).
        With ``approval_until`` it waits for a person: no message, and nobody can claim it.
        """
        ...

    def approve(
        self, run: int, by: str, now: datetime, why: str = "", accepts: Acceptance | None = None
    ) -> Message | None:
        """A run that waits for a person may begin: its first message, in one transaction with the outbox row.

        ``accepts``: what the person lets be lost; written into its plan.

        None when it does not wait, or not any longer (``approval_until``).
        """
        ...

    def call_off(self, run: int, why: str, now: datetime, by: str) -> Run | None:
        """Ends (ABORTED) a run that nobody has ever claimed; None when somebody has, or it has ended."""
        ...

    def break_off(self, run: int, why: str, now: datetime, by: str) -> Run | None:
        """Ends (ABORTED) a run that has begun, where nothing that it did is to be taken back.

        Its executor's lease is over with it: what it writes from then on is refused. None: it has not begun,
        has ended, or something of it would have to be undone.
        """
        ...

    def last_done(self, service: str, action: str) -> datetime | None:
        """When a step of that action was last done for the service; None: never."""
        ...

    def get(self, run: int) -> Run:
        """KeyError when there is none."""
        ...

    def recent(self, limit: int = 20) -> tuple[Run, ...]:
        """The latest runs, newest first."""
        ...

    def active(self) -> tuple[Run, ...]:
        """Runs that have not ended."""
        ...

    def claim(
        self, run: int, step: int, phase: str, *, owner: str, now: datetime, lease_s: float
    ) -> Run | None:
        """Takes the lease with the next fence of all runs, and records the attempt.

        None when there is nothing to take: ended, at another step or phase, or leased by a living owner,
        or not due yet.
        """
        ...

    def next_fence(self, now: datetime) -> int:
        """The next fence of all, for a command that belongs to no run."""
        ...

    def raise_fence(self, above: int) -> None:
        """Every later fence is higher than ``above``; for a store that lost its data, as agents did not."""
        ...

    def renew(self, run: int, fence: int, now: datetime, lease_s: float) -> bool:
        """False when the fence is no longer this run's: the executor must stop."""
        ...

    def capture(self, run: int, fence: int, step: int, captured: Json) -> None:
        """Stores what undo needs. Raises StaleFence."""
        ...

    def tell(self, run: int, fence: int, step: int, progress: Json) -> None:
        """How far the step is, as its output until it has one. Raises StaleFence."""
        ...

    def settle(
        self, before: Run, after: Run, fence: int, *, outcome: str, error: str, due: datetime | None
    ) -> Message | None:
        """Writes an attempt's end, the run's next state and the outbox row, releasing the lease.

        ``due``: not before then (a retry); such a message is not returned, the sweeper sends it.
        Raises StaleFence, and then nothing is written.
        """
        ...

    def sweep(self, now: datetime, unsent_after_s: float, silent_after_s: float) -> tuple[Message, ...]:
        """Messages to send again: outbox rows unsent for that long and due, and the current step of every
        run whose lease is over, or that nobody has touched for that long.
        """
        ...

    def sent(self, messages: Sequence[Message], now: datetime) -> None:
        """Ticks off outbox rows."""
        ...

    def attempts(self, run: int) -> tuple[Attempt, ...]:
        """Every attempt, oldest first."""
        ...

    def started_since(self, since: datetime) -> int:
        """How many runs were created since then (drills not counted)."""
        ...


class Incidents(Protocol):
    """Incidents and their timelines."""

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
        """The incident that holds that key, and whether this call opened it (unique index).

        An incident holds its key until it is RESOLVED, or ESCALATED and let go.
        """
        ...

    def get(self, incident: int) -> Incident:
        """KeyError when there is none."""
        ...

    def current(self) -> tuple[Incident, ...]:
        """Those that have not ended, and those that a person must acknowledge."""
        ...

    def recent(self, limit: int = 20) -> tuple[Incident, ...]:
        """The latest, newest first."""
        ...

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
        """Changes the state and tells the timeline why; the same state again only once.

        ``only_from``: in another state it is left as it is. Whoever judged by what was read before must say
        so, or a slow observer takes back what a quick one has begun.
        """
        ...

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
        """Makes it a child of ``parent`` and SUPPRESSED, and tells both stories, once.

        KeyError when there is no such parent.
        """
        ...

    def note(self, incident: int, now: datetime, actor: str, text: str, *, once: bool = False) -> None:
        """Adds a line to the timeline. ``once``: unless somebody has written the same line before."""
        ...

    def timeline(self, incident: int) -> tuple[TimelineEntry, ...]:
        """Oldest first."""
        ...

    def let_go(self, incident: int, now: datetime, actor: str, text: str) -> None:
        """An escalated incident's failure is over: another of the same key may open. Idempotent.

        Until then (or until it is acknowledged) an escalated incident holds its key, so that the same
        standing failure does not open one incident after the other.
        """
        ...

    def acknowledge(self, incident: int, now: datetime, actor: str) -> Incident:
        """A person has seen an escalated incident: it becomes RESOLVED. Without effect on others."""
        ...


class Observations(Protocol):
    """The ring of probe outcomes."""

    def record(self, outcomes: Sequence[ProbeOutcome]) -> None:
        """Adds outcomes and their counters (probes, failures, duration) in one transaction."""
        ...

    def since(self, moment: datetime, service: str | None = None) -> tuple[ProbeOutcome, ...]:
        """Outcomes sent since then, oldest first."""
        ...

    def prune(self, before: datetime) -> int:
        """Deletes older ones; counters stay. Answers how many."""
        ...


class Clusters(Protocol):
    """PostgreSQL clusters: one row each, changed only by compare-and-set."""

    def get(self, name: str) -> Cluster:
        """KeyError when there is none."""
        ...

    def register(self, cluster: Cluster, now: datetime) -> Cluster:
        """Adds it, or answers the one that exists."""
        ...

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
        """Compare-and-set on the epoch; None leaves a field as it is. Raises StaleEpoch.

        ``under``: the run's claim that moves it on. Raises StaleFence, and writes nothing, once another has
        claimed the run or it has ended.
        """
        ...


class WantedServers(Protocol):
    """What the balancers should look like."""

    def all(self) -> tuple[WantedServer, ...]:
        """Every wanted server."""
        ...

    def want(
        self,
        changes: Mapping[tuple[str, str], ServerState],
        reason: str,
        now: datetime,
        under: Warrant | Reign | None = None,
    ) -> tuple[WantedServer, ...]:
        """Sets (backend, server) -> state in one transaction, generation + 1; answers all.

        ``under``: the run's claim that says so. Raises StaleFence, and writes nothing, once another has
        claimed the run or it has ended; of a cluster's epoch StaleEpoch, once it has moved on. None: a
        person says so.
        """
        ...


class ScheduleBook(Protocol):
    """When each entry of the beat schedule last did what it is for."""

    def succeeded(self, entry: str, at: datetime) -> None:
        """Its task ended well; an older moment than the one kept changes nothing."""
        ...

    def successes(self) -> Mapping[str, datetime]:
        """Latest success of each entry that ever had one."""
        ...

    def last_tick(self) -> datetime | None:
        """When beat last had a message sent, or a tick settled; None: never."""
        ...


class ReplicationBook(Protocol):
    """The latest picture of each cluster's replication; see ReplicationReport.to_json."""

    def put(self, service: str, body: Json, at: datetime) -> None:
        """Replaces the one that is kept, unless that is newer. Idempotent."""
        ...

    def latest(self) -> Mapping[str, tuple[datetime, Json]]:
        """Service -> (when it was taken, the picture)."""
        ...


class HealthBook(Protocol):
    """The latest look at the system's health; see SystemHealthStatus.to_json."""

    def put(self, body: Json, at: datetime) -> None:
        """Replaces the one that is kept, unless that is newer. Idempotent."""
        ...

    def latest(self) -> tuple[datetime, Json] | None:
        """(when it was taken, the look); None before the first."""
        ...


class DrillBook(Protocol):
    """Reports of drills."""

    def add(self, scenario: str, verdict: str, body: Json, at: datetime) -> int:
        """Keeps a report; answers its number."""
        ...

    def latest(self, limit: int = 20) -> tuple[tuple[int, datetime, Json], ...]:
        """Newest first."""
        ...
