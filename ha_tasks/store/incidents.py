"""Incidents and their timelines in SQL. See ports/repositories.py for the contract."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, select, update
from sqlalchemy.exc import IntegrityError

from ha_tasks.model.deeds import (
    incident_acknowledged,
    incident_let_go,
    incident_moved,
    incident_opened,
)
from ha_tasks.model.incident import ENDED, Incident, IncidentKind, IncidentState, TimelineEntry
from ha_tasks.model.plain import Json
from ha_tasks.store.audit import record
from ha_tasks.store.engine import Database
from ha_tasks.store.rows import insert
from ha_tasks.store.tables import incident as incidents
from ha_tasks.store.tables import incident_event as events


class SqlIncidents:
    """Implements ``Incidents``."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
        """See the port. The unique index decides between observers who see the same failure."""
        row = {
            "key": key,
            "holds_key": True,
            "service": service,
            "instance": instance,
            "kind": str(kind),
            "state": str(IncidentState.OPEN),
            "severity": severity,
            "summary": summary,
            "fault_at": fault_at,
            "detected_at": now,
            "evidence": evidence,
        }
        while True:
            with self._database.writing() as connection:
                opened = _insert(connection, row)
                if opened is not None:
                    _tell(connection, opened.id, now, actor, f"opened: {summary}")
                    record(connection, now, incident_opened(opened, actor))
                holder = opened or _first(connection, _holder(key))
            # Neither: the holder let the key go between the two statements, so the key is free again.
            if holder is not None:
                return holder, opened is not None

    def get(self, incident: int) -> Incident:
        """See the port."""
        with self._database.reading() as connection:
            return _must_find(connection, incident)

    def current(self) -> tuple[Incident, ...]:
        """See the port."""
        # Named one by one: no index answers "all but those", and nearly all are those.
        standing = [str(state) for state in IncidentState if state is not IncidentState.RESOLVED]
        return self._all(select(incidents).where(incidents.c.state.in_(standing)).order_by(incidents.c.id))

    def recent(self, limit: int = 20) -> tuple[Incident, ...]:
        """See the port."""
        return self._all(select(incidents).order_by(incidents.c.id.desc()).limit(limit))

    def _all(self, query: Select[Any]) -> tuple[Incident, ...]:
        with self._database.reading() as connection:
            return tuple(_incident_of(row) for row in connection.execute(query))

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
        """See the port. A resolved incident stays as it is: a run that ends late does not reopen it.

        Neither does an escalated one move on, other than to its end, once it has let its key go and
        another incident holds it.
        """
        try:
            with self._database.writing() as connection:
                old = _must_find(connection, incident, lock=True)
                if only_from is not None and old.state not in only_from:
                    return old
                new = _move(connection, old, state, now=now, actor=actor, text=text, run=run)
                record(connection, now, *incident_moved(old, new, actor, text))
                return new
        except IntegrityError:
            return self.get(incident)

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
        """See the port."""
        with self._database.writing() as connection:
            old = _must_find(connection, incident, lock=True)
            _must_find(connection, parent)
            known = old.parent == parent and old.state is IncidentState.SUPPRESSED
            if known or old.state not in only_from:
                return old
            _change(connection, incident, {"parent": parent})
            if old.parent != parent:
                waits = f"I-{incident} ({old.instance} of {old.service}) waits for this"
                _tell(connection, parent, now, actor, waits)
            _move(connection, old, IncidentState.SUPPRESSED, now=now, actor=actor, text=text)
            new = _must_find(connection, incident)
            record(connection, now, *incident_moved(old, new, actor, text))
            return new

    def note(self, incident: int, now: datetime, actor: str, text: str, *, once: bool = False) -> None:
        """See the port. KeyError when there is no such incident."""
        same = select(events.c.id).where(events.c.incident == incident, events.c.text == text)
        with self._database.writing() as connection:
            _must_find(connection, incident, lock=once)
            if not once or connection.execute(same).first() is None:
                _tell(connection, incident, now, actor, text)

    def timeline(self, incident: int) -> tuple[TimelineEntry, ...]:
        """See the port."""
        query = select(events).where(events.c.incident == incident).order_by(events.c.at, events.c.id)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return tuple(TimelineEntry(at=row.at, actor=row.actor, text=row.text) for row in rows)

    def let_go(self, incident: int, now: datetime, actor: str, text: str) -> None:
        """See the port. KeyError when there is no such incident."""
        with self._database.writing() as connection:
            found = _must_find(connection, incident, lock=True)
            if found.state is IncidentState.ESCALATED and found.holds_key:
                _change(connection, incident, {"holds_key": False})
                _tell(connection, incident, now, actor, text)
                record(connection, now, incident_let_go(found, actor, text))

    def acknowledge(self, incident: int, now: datetime, actor: str) -> Incident:
        """See the port. KeyError when there is no such incident."""
        with self._database.writing() as connection:
            found = _must_find(connection, incident, lock=True)
            if found.state is not IncidentState.ESCALATED:
                return found
            text = f"acknowledged by {actor}"
            new = _move(connection, found, IncidentState.RESOLVED, now=now, actor=actor, text=text)
            record(connection, now, *incident_acknowledged(found, new, actor, text))
            return new


def _holder(key: str) -> Select[Any]:
    return select(incidents).where(incidents.c.key == key, incidents.c.holds_key)


def _insert(connection: Connection, row: Mapping[str, Any]) -> Incident | None:
    """None when an incident holds the key."""
    statement = insert(connection, incidents).values(**row).on_conflict_do_nothing()
    made = connection.execute(statement.returning(incidents)).one_or_none()
    return None if made is None else _incident_of(made)


def _first(connection: Connection, query: Select[Any]) -> Incident | None:
    row = connection.execute(query).first()
    return None if row is None else _incident_of(row)


def _must_find(connection: Connection, incident: int, *, lock: bool = False) -> Incident:
    query = select(incidents).where(incidents.c.id == incident)
    found = _first(connection, query.with_for_update() if lock else query)
    if found is None:
        raise KeyError(incident)
    return found


def _move(
    connection: Connection,
    old: Incident,
    state: IncidentState,
    *,
    now: datetime,
    actor: str,
    text: str,
    run: int | None = None,
) -> Incident:
    if old.state is IncidentState.RESOLVED:
        return old
    changes: dict[str, Any] = {} if run is None else {"run": run}
    if state is not old.state:
        changes |= {"state": str(state), **_entered(old, state, now)}
        _tell(connection, old.id, now, actor, f"{state}: {text}")
    if not changes:
        return old
    _change(connection, old.id, changes)
    return _must_find(connection, old.id)


def _entered(old: Incident, state: IncidentState, now: datetime) -> dict[str, Any]:
    """What else changes with the state; a key is held again until the end."""
    if state is IncidentState.RESOLVED:
        return {"resolved_at": now, "holds_key": False}
    if state is IncidentState.MITIGATED:
        return {"mitigated_at": old.mitigated_at or now, "holds_key": True}
    return {} if state in ENDED else {"holds_key": True}


def _change(connection: Connection, incident: int, changes: Mapping[str, Any]) -> None:
    connection.execute(update(incidents).where(incidents.c.id == incident).values(**changes))


def _tell(connection: Connection, incident: int, at: datetime, actor: str, text: str) -> None:
    connection.execute(insert(connection, events).values(incident=incident, at=at, actor=actor, text=text))


def _incident_of(row: Row[Any]) -> Incident:
    return Incident(
        id=row.id,
        key=row.key,
        service=row.service,
        instance=row.instance,
        kind=IncidentKind(row.kind),
        state=IncidentState(row.state),
        severity=row.severity,
        summary=row.summary,
        fault_at=row.fault_at,
        detected_at=row.detected_at,
        mitigated_at=row.mitigated_at,
        resolved_at=row.resolved_at,
        run=row.run,
        parent=row.parent,
        holds_key=row.holds_key,
        evidence=row.evidence,
    )
