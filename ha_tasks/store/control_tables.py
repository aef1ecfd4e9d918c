"""The tables of what people and other services say to the control plane, and of who leads it.

Revisions of the inventory, versions of what services are served from, maintenance, requests, leadership, the
schedule's ticks, instances that registered, the audit chain and how far its events have been told.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Column, Double, Index, Named, Table, TypedColumns

from ha_tasks.model.plain import Json
from ha_tasks.store.columns import Id, Moment, PlainJson, Words
from ha_tasks.store.tables import metadata


class _InventoryRevision(TypedColumns):
    no: Named[int] = Column(Id, primary_key=True, autoincrement=False)
    sha256: Named[str]
    body: Named[Json] = Column(PlainJson, nullable=False)
    changes: Named[Json] = Column(PlainJson, nullable=False)
    actor: Named[str]
    reason: Named[str] = Column(Words)
    applied_at: Named[datetime] = Column(Moment)


inventory_revision = Table("inventory_revision", metadata, _InventoryRevision)


class _Maintenance(TypedColumns):
    id: Named[int] = Column(Id, primary_key=True)
    scope: Named[str]
    starts_at: Named[datetime | None] = Column(Moment)
    ends_at: Named[datetime | None] = Column(Moment)
    rule: Named[Json | None] = Column(PlainJson, nullable=True)
    actor: Named[str]
    reason: Named[str] = Column(Words)
    created_at: Named[datetime] = Column(Moment)
    ended_at: Named[datetime | None] = Column(Moment)
    ended_by: Named[str | None]


maintenance = Table("maintenance", metadata, _Maintenance, Index("ix_maintenance_ended_at", "ended_at"))


class _RecoveryRequest(TypedColumns):
    key: Named[str] = Column(primary_key=True)
    sha256: Named[str]
    body: Named[Json] = Column(PlainJson, nullable=False)
    requested_by: Named[str]
    received_at: Named[datetime] = Column(Moment)
    answer: Named[Json | None] = Column(PlainJson, nullable=True)
    run: Named[int | None] = Column(Id)


recovery_request = Table("recovery_request", metadata, _RecoveryRequest)


class _Leadership(TypedColumns):
    name: Named[str] = Column(primary_key=True)
    holder: Named[str]
    fence: Named[int] = Column(BigInteger)
    lease_until: Named[datetime] = Column(Moment)


leadership = Table("leadership", metadata, _Leadership)


class _ScheduleTick(TypedColumns):
    name: Named[str] = Column(primary_key=True)
    due_at: Named[datetime] = Column(Moment)
    fence: Named[int] = Column(BigInteger)
    state: Named[str]
    changed_at: Named[datetime] = Column(Moment)


schedule_tick = Table("schedule_tick", metadata, _ScheduleTick)


class _AuditEntry(TypedColumns):
    seq: Named[int] = Column(BigInteger, primary_key=True, autoincrement=False)
    at: Named[datetime] = Column(Moment)
    actor: Named[str] = Column(Words)
    verb: Named[str]
    object: Named[str] = Column(Words)
    before: Named[Json | None] = Column(PlainJson, nullable=True)
    after: Named[Json | None] = Column(PlainJson, nullable=True)
    prev_hash: Named[str]
    hash: Named[str]


audit_entry = Table("audit_entry", metadata, _AuditEntry)


class _AuditHead(TypedColumns):
    """One row: the newest entry. Locking it is what makes the chain one chain."""

    id: Named[int] = Column(primary_key=True, autoincrement=False)
    seq: Named[int] = Column(BigInteger)
    hash: Named[str]


audit_head = Table("audit_head", metadata, _AuditHead)


class _EventCursor(TypedColumns):
    name: Named[str] = Column(primary_key=True)
    seq: Named[int] = Column(BigInteger)
    attempts: Named[int]
    due_at: Named[datetime] = Column(Moment)
    error: Named[str] = Column(Words)
    changed_at: Named[datetime] = Column(Moment)


event_cursor = Table("event_cursor", metadata, _EventCursor)


class _ServiceVersion(TypedColumns):
    service: Named[str] = Column(primary_key=True)
    no: Named[int] = Column(Id, primary_key=True, autoincrement=False)
    files: Named[Json] = Column(PlainJson, nullable=False)
    actor: Named[str] = Column(Words)
    reason: Named[str] = Column(Words)
    recorded_at: Named[datetime] = Column(Moment)
    judgement: Named[str]
    judged_at: Named[datetime | None] = Column(Moment)
    why: Named[str] = Column(Words)


service_version = Table("service_version", metadata, _ServiceVersion)


class _HealthPicture(TypedColumns):
    """One row: the latest."""

    id: Named[int] = Column(primary_key=True, autoincrement=False)
    body: Named[Json] = Column(PlainJson, nullable=False)
    taken_at: Named[datetime] = Column(Moment)


health_picture = Table("health_picture", metadata, _HealthPicture)


class _Registration(TypedColumns):
    service: Named[str] = Column(primary_key=True)
    name: Named[str] = Column(primary_key=True)
    address: Named[str]
    role: Named[str]
    metadata: Named[Json] = Column("metadata", PlainJson, nullable=False)
    lease: Named[int] = Column(BigInteger)
    ttl_s: Named[float] = Column(Double)
    registered_at: Named[datetime] = Column(Moment)
    renewed_at: Named[datetime] = Column(Moment)


registration = Table("registration", metadata, _Registration)


class _Identity(TypedColumns):
    name: Named[str] = Column(primary_key=True)
    value: Named[str]


identity = Table("identity", metadata, _Identity)
