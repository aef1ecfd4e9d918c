"""The tables. They know runs, incidents and limits; they know no service of the protected platform.

At most one of a thing is a partial UNIQUE index here, never a check in code: one incident per key,
one active run per scope, one open availability interval per service.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    MetaData,
    Named,
    Table,
    TypedColumns,
    text,
)

from ha_tasks.model.plain import Json
from ha_tasks.store.columns import Id, Moment, PlainJson, Words

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _at_most_one(name: str, *columns: str, where: str) -> Index:
    """The partial UNIQUE index that lets at most one row per ``columns`` fulfil ``where``."""
    condition = text(where)
    return Index(name, *columns, unique=True, sqlite_where=condition, postgresql_where=condition)


class _Incident(TypedColumns):
    id: Named[int] = Column(Id, primary_key=True)
    key: Named[str]
    holds_key: Named[bool]
    service: Named[str]
    instance: Named[str]
    kind: Named[str]
    state: Named[str]
    severity: Named[str]
    summary: Named[str] = Column(Words)
    fault_at: Named[datetime] = Column(Moment)
    detected_at: Named[datetime] = Column(Moment)
    mitigated_at: Named[datetime | None] = Column(Moment)
    resolved_at: Named[datetime | None] = Column(Moment)
    run: Named[int | None] = Column(Id)
    evidence: Named[Json] = Column(PlainJson, nullable=False)
    parent: Named[int | None] = Column(Id)


incident = Table(
    "incident",
    metadata,
    _Incident,
    _at_most_one("uq_incident_key_held", "key", where="holds_key"),
    Index("ix_incident_state", "state"),
)


class _IncidentEvent(TypedColumns):
    id: Named[int] = Column(Id, primary_key=True)
    incident: Named[int] = Column(Id, ForeignKey("incident.id", ondelete="CASCADE"))
    at: Named[datetime] = Column(Moment)
    actor: Named[str]
    text: Named[str] = Column(Words)


incident_event = Table(
    "incident_event", metadata, _IncidentEvent, Index("ix_incident_event_incident_at", "incident", "at")
)


class _Run(TypedColumns):
    id: Named[int] = Column(Id, primary_key=True)
    incident: Named[int | None] = Column(Id, ForeignKey("incident.id"))
    idempotency_key: Named[str] = Column(unique=True)
    service: Named[str]
    scope: Named[str]
    playbook: Named[str]
    plan: Named[Json] = Column(PlainJson, nullable=False)
    mode: Named[str]
    requested_by: Named[str]
    reason: Named[str] = Column(Words)
    state: Named[str]
    phase: Named[str]
    position: Named[int]
    fence: Named[int] = Column(BigInteger)
    lease_owner: Named[str | None]
    lease_until: Named[datetime | None] = Column(Moment)
    due: Named[datetime | None] = Column(Moment)
    error: Named[str] = Column(Words)
    created_at: Named[datetime] = Column(Moment)
    updated_at: Named[datetime] = Column(Moment)
    ended_at: Named[datetime | None] = Column(Moment)
    revision: Named[int | None]
    approval_until: Named[datetime | None] = Column(Moment)
    approved_by: Named[str | None]
    deadline: Named[datetime | None] = Column(Moment)


run = Table(
    "run",
    metadata,
    _Run,
    _at_most_one("uq_run_scope_active", "scope", where="ended_at IS NULL"),
    Index("ix_run_created_at", "created_at"),
    Index("ix_run_incident", "incident"),
)


class _Step(TypedColumns):
    run: Named[int] = Column(Id, ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    no: Named[int] = Column(primary_key=True)
    action: Named[str]
    state: Named[str]
    attempts: Named[int]
    captured: Named[Json | None] = Column(PlainJson, nullable=True)
    output: Named[Json] = Column(PlainJson, nullable=False)
    error: Named[str] = Column(Words)
    started_at: Named[datetime | None] = Column(Moment)
    ended_at: Named[datetime | None] = Column(Moment)


step = Table("step", metadata, _Step)


class _Attempt(TypedColumns):
    fence: Named[int] = Column(BigInteger, primary_key=True, autoincrement=False)
    run: Named[int] = Column(Id, ForeignKey("run.id", ondelete="CASCADE"))
    step: Named[int]
    phase: Named[str]
    worker: Named[str]
    started_at: Named[datetime] = Column(Moment)
    ended_at: Named[datetime | None] = Column(Moment)
    outcome: Named[str]
    error: Named[str] = Column(Words)


attempt = Table("attempt", metadata, _Attempt, Index("ix_attempt_run", "run"))


class _Outbox(TypedColumns):
    id: Named[int] = Column(Id, primary_key=True)
    run: Named[int] = Column(Id, ForeignKey("run.id", ondelete="CASCADE"), unique=True)
    task: Named[str]
    queue: Named[str]
    kwargs: Named[Json] = Column(PlainJson, nullable=False)
    offered_at: Named[datetime | None] = Column(Moment)
    sent_at: Named[datetime | None] = Column(Moment)


outbox = Table(
    "outbox",
    metadata,
    _Outbox,
    # A number is never given twice: a late tick must not meet another message under its number.
    sqlite_autoincrement=True,
)


class _Sequence(TypedColumns):
    name: Named[str] = Column(primary_key=True)
    value: Named[int] = Column(BigInteger)


sequence = Table("sequence", metadata, _Sequence)


class _ProbeOutcome(TypedColumns):
    id: Named[int] = Column(Id, primary_key=True)
    service: Named[str]
    instance: Named[str]
    vantage: Named[str]
    probe: Named[str]
    sent_at: Named[datetime] = Column(Moment)
    known_at: Named[datetime] = Column(Moment)
    kind: Named[str]
    rtt_s: Named[float] = Column(Double)
    detail: Named[str] = Column(Words)
    facts: Named[Json] = Column(PlainJson, nullable=False)


probe_outcome = Table(
    "probe_outcome",
    metadata,
    _ProbeOutcome,
    Index("ix_probe_outcome_sent_at", "sent_at"),
    Index("ix_probe_outcome_service_sent_at", "service", "sent_at"),
)


class _Cluster(TypedColumns):
    name: Named[str] = Column(primary_key=True)
    epoch: Named[int] = Column(BigInteger)
    primary: Named[str]
    state: Named[str]
    sets: Named[list[Any]] = Column(PlainJson, nullable=False)
    unfinished: Named[list[Any]] = Column(PlainJson, nullable=False)
    updated_at: Named[datetime] = Column(Moment)


cluster = Table("cluster", metadata, _Cluster)


class _WantedServer(TypedColumns):
    backend: Named[str] = Column(primary_key=True)
    server: Named[str] = Column(primary_key=True)
    state: Named[str]
    generation: Named[int] = Column(BigInteger)
    reason: Named[str] = Column(Words)
    changed_at: Named[datetime] = Column(Moment)


wanted_server = Table("wanted_server", metadata, _WantedServer)


class _Cooldown(TypedColumns):
    scope: Named[str] = Column(primary_key=True)
    playbook: Named[str] = Column(primary_key=True)
    until: Named[datetime] = Column(Moment)
    acknowledged_at: Named[datetime | None] = Column(Moment)
    acknowledged_by: Named[str | None]
    length_s: Named[float | None] = Column(Double)


cooldown = Table("cooldown", metadata, _Cooldown)


class _Switch(TypedColumns):
    name: Named[str] = Column(primary_key=True)
    scope: Named[str] = Column(primary_key=True)
    engaged: Named[bool]
    actor: Named[str]
    reason: Named[str] = Column(Words)
    changed_at: Named[datetime] = Column(Moment)


switch = Table("switch", metadata, _Switch)


class _Refusal(TypedColumns):
    incident: Named[int] = Column(Id, ForeignKey("incident.id", ondelete="CASCADE"), primary_key=True)
    guard: Named[str] = Column(primary_key=True)
    detail: Named[str] = Column(Words)
    times: Named[int]
    first_at: Named[datetime] = Column(Moment)
    last_at: Named[datetime] = Column(Moment)


refusal = Table("refusal", metadata, _Refusal)


class _Counter(TypedColumns):
    name: Named[str] = Column(primary_key=True)
    labels: Named[str] = Column(primary_key=True)
    value: Named[float] = Column(Double)


counter = Table("counter", metadata, _Counter)


class _Histogram(TypedColumns):
    name: Named[str] = Column(primary_key=True)
    labels: Named[str] = Column(primary_key=True)
    observations: Named[int] = Column(BigInteger)
    total: Named[float] = Column(Double)


histogram = Table("histogram", metadata, _Histogram)


class _HistogramBucket(TypedColumns):
    name: Named[str] = Column(primary_key=True)
    labels: Named[str] = Column(primary_key=True)
    bound: Named[float] = Column(Double, primary_key=True)
    observations: Named[int] = Column(BigInteger)


histogram_bucket = Table("histogram_bucket", metadata, _HistogramBucket)


class _AvailabilityInterval(TypedColumns):
    id: Named[int] = Column(Id, primary_key=True)
    service: Named[str]
    state: Named[str]
    since: Named[datetime] = Column(Moment)
    until: Named[datetime | None] = Column(Moment)


availability_interval = Table(
    "availability_interval",
    metadata,
    _AvailabilityInterval,
    _at_most_one("uq_availability_interval_service_open", "service", where="until IS NULL"),
    Index("ix_availability_interval_service_since", "service", "since"),
    Index("ix_availability_interval_until", "until"),
)


class _ServiceScore(TypedColumns):
    service: Named[str] = Column(primary_key=True)
    score: Named[float] = Column(Double)
    judged_at: Named[datetime] = Column(Moment)


service_score = Table("service_score", metadata, _ServiceScore)


class _IntegrityCheck(TypedColumns):
    name: Named[str] = Column(primary_key=True)
    target: Named[str] = Column(primary_key=True)
    ok: Named[bool]
    detail: Named[str] = Column(Words)
    checked_at: Named[datetime] = Column(Moment)


integrity_check = Table("integrity_check", metadata, _IntegrityCheck)


class _Worker(TypedColumns):
    name: Named[str] = Column(primary_key=True)
    kind: Named[str]
    queues: Named[list[Any]] = Column(PlainJson, nullable=False)
    pid: Named[int]
    heartbeat_at: Named[datetime] = Column(Moment)
    revision: Named[int | None]


worker = Table("worker", metadata, _Worker)


class _ScheduleEntry(TypedColumns):
    name: Named[str] = Column(primary_key=True)
    succeeded_at: Named[datetime] = Column(Moment)


schedule_entry = Table("schedule_entry", metadata, _ScheduleEntry)


class _ReplicationPicture(TypedColumns):
    service: Named[str] = Column(primary_key=True)
    body: Named[Json] = Column(PlainJson, nullable=False)
    taken_at: Named[datetime] = Column(Moment)


replication_picture = Table("replication_picture", metadata, _ReplicationPicture)


class _Drill(TypedColumns):
    id: Named[int] = Column(Id, primary_key=True)
    scenario: Named[str]
    verdict: Named[str]
    body: Named[Json] = Column(PlainJson, nullable=False)
    reported_at: Named[datetime] = Column(Moment)


drill = Table("drill", metadata, _Drill)
