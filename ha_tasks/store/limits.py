"""Cool-downs, switches and refusals in SQL. See ports/repositories.py for the contract."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select, update

from ha_tasks.model.cooldown import CoolDown
from ha_tasks.model.deeds import cool_downs_acknowledged, switch_set
from ha_tasks.model.switch import Switch
from ha_tasks.store.audit import record
from ha_tasks.store.engine import Database
from ha_tasks.store.rows import insert, put
from ha_tasks.store.tables import cooldown, refusal
from ha_tasks.store.tables import switch as switches

_ENGAGED = select(switches).where(switches.c.engaged).order_by(switches.c.name, switches.c.scope)


class SqlLimits:
    """Implements ``Limits``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def cool(self, scope: str, playbook: str, until: datetime, *, length_s: float | None = None) -> None:
        """See the port. Idempotent; a later call says the new end."""
        row = {
            "scope": scope,
            "playbook": playbook,
            "until": until,
            "length_s": length_s,
            "acknowledged_at": None,
            "acknowledged_by": None,
        }
        with self._database.writing() as connection:
            put(connection, cooldown, row)

    def cooling(self, scope: str, playbook: str) -> datetime | None:
        """See the port."""
        query = select(cooldown.c.until).where(
            cooldown.c.scope == scope,
            cooldown.c.playbook == playbook,
            cooldown.c.acknowledged_at.is_(None),
        )
        with self._database.reading() as connection:
            return connection.execute(query).scalar()

    def cooldown(self, scope: str, playbook: str) -> CoolDown | None:
        """See the port."""
        query = select(cooldown).where(cooldown.c.scope == scope, cooldown.c.playbook == playbook)
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        # A store of revision 0001 did not say how long a cool-down was made.
        acknowledged = row.acknowledged_at is not None
        return CoolDown(until=row.until, length_s=row.length_s or 0.0, acknowledged=acknowledged)

    def acknowledge(self, scope: str, now: datetime, actor: str) -> tuple[str, ...]:
        """See the port. One that is over by itself is none of them."""
        standing = (
            (cooldown.c.scope == scope) & (cooldown.c.until > now) & cooldown.c.acknowledged_at.is_(None)
        )
        ended = update(cooldown).where(standing).values(acknowledged_at=now, acknowledged_by=actor)
        with self._database.writing() as connection:
            playbooks = tuple(sorted(connection.execute(ended.returning(cooldown.c.playbook)).scalars()))
            record(connection, now, *cool_downs_acknowledged(scope, playbooks, actor))
            return playbooks

    def switch(self, name: str, scope: str = "") -> str | None:
        """See the port."""
        with self._database.reading() as connection:
            return _engaged_by(connection, name, scope)

    def switches(self) -> tuple[Switch, ...]:
        """See the port."""
        with self._database.glancing() as connection:
            return tuple(
                Switch(
                    name=row.name,
                    scope=row.scope,
                    actor=row.actor,
                    reason=row.reason,
                    since=row.changed_at,
                )
                for row in connection.execute(_ENGAGED)
            )

    def set_switch(
        self, name: str, engaged: bool, actor: str, reason: str, now: datetime, *, scope: str = ""
    ) -> None:
        """See the port. Idempotent."""
        row = {
            "name": name,
            "scope": scope,
            "engaged": engaged,
            "actor": actor,
            "reason": reason,
            "changed_at": now,
        }
        with self._database.writing() as connection:
            before = _engaged_by(connection, name, scope)
            put(connection, switches, row)
            told = switch_set(name, scope, before=before, engaged=engaged, actor=actor, reason=reason)
            record(connection, now, *told)

    def refused(self, incident: int, guard: str, detail: str, now: datetime) -> bool:
        """See the port."""
        with self._database.writing() as connection:
            statement = insert(connection, refusal).values(
                incident=incident, guard=str(guard), detail=detail, times=1, first_at=now, last_at=now
            )
            again = {"times": refusal.c.times + 1, "detail": statement.excluded.detail, "last_at": now}
            counted = statement.on_conflict_do_update(index_elements=["incident", "guard"], set_=again)
            return connection.execute(counted.returning(refusal.c.times)).scalar_one() == 1

    def last_refusal(self, incident: int) -> str | None:
        """See the port."""
        latest = (
            select(refusal.c.guard)
            .where(refusal.c.incident == incident)
            .order_by(refusal.c.last_at.desc())
            .limit(1)
        )
        with self._database.reading() as connection:
            return connection.execute(latest).scalar()


def _engaged_by(connection: Connection, name: str, scope: str) -> str | None:
    query = select(switches.c.actor).where(
        switches.c.name == name, switches.c.scope == scope, switches.c.engaged
    )
    return connection.execute(query).scalar()
