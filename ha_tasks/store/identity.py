"""The store's identity in SQL: one row for each thing that it says of itself. See ports/identity.py."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, String, cast, delete, literal, select, union_all

from ha_tasks.errors import StaleEpoch, UsageError
from ha_tasks.model.audit import AuditVerb
from ha_tasks.model.cluster import Cluster
from ha_tasks.model.deeds import Deed, cluster_registered
from ha_tasks.ports.identity import Identity
from ha_tasks.store.audit import record
from ha_tasks.store.control_tables import identity
from ha_tasks.store.engine import MIGRATE, Database
from ha_tasks.store.journal import FENCE
from ha_tasks.store.plans import sets_to_json, unfinished_to_json
from ha_tasks.store.rows import insert, put
from ha_tasks.store.tables import cluster as clusters
from ha_tasks.store.tables import sequence

STORE_ID = "store_id"
MOVED_TO = "moved_to"
_APPROVING = "approving"
_HELD = "held"
_FENCE_SEEN = "fence_seen"
_EPOCH_SEEN = "epoch_seen/"
_SUCCEEDS = "succeeds/"
_STRANGER = "stranger/"
_WORD, _NUMBER, _EPOCH = "word", "number", "epoch"
_EVERYTHING = union_all(
    select(literal(_WORD).label("part"), identity.c.name.label("name"), identity.c.value.label("value")),
    select(literal(_NUMBER), sequence.c.name, cast(sequence.c.value, String)).where(sequence.c.name == FENCE),
    select(literal(_EPOCH), clusters.c.name, cast(clusters.c.epoch, String)),
)
"""One statement: it is asked before every step."""


def give_identity(connection: Connection) -> None:
    """A new id, unless the store has one. Whoever migrates calls it."""
    statement = insert(connection, identity).values(name=STORE_ID, value=uuid.uuid4().hex)
    connection.execute(statement.on_conflict_do_nothing())


class SqlIdentity:
    """Implements ``StoreIdentity``; ``actor``: the process that the audit chain names."""

    def __init__(self, database: Database, actor: str = "") -> None:
        self._database = database
        self._actor = actor

    def read(self) -> Identity:
        """See the port. UsageError for a store without an id: it was not migrated."""
        with self._database.glancing() as connection:
            rows = connection.execute(_EVERYTHING).all()
        said = {row.name: row.value for row in rows if row.part == _WORD}
        if STORE_ID not in said:
            raise UsageError(f"the store has no id yet; give it one with: {MIGRATE}")
        return Identity(
            store_id=said[STORE_ID],
            succeeds=frozenset(_under(said, _SUCCEEDS)),
            strangers=frozenset(_under(said, _STRANGER)),
            moved_to=said.get(MOVED_TO, ""),
            approving=said.get(_APPROVING, ""),
            held=said.get(_HELD, ""),
            fence=next((int(row.value) for row in rows if row.part == _NUMBER), 0),
            epochs={row.name: int(row.value) for row in rows if row.part == _EPOCH},
            fence_seen=int(said.get(_FENCE_SEEN, "0")),
            epochs_seen={name: int(value) for name, value in _under(said, _EPOCH_SEEN).items()},
        )

    def witness(self, epochs: Mapping[str, int], fence: int) -> None:
        """See the port."""
        seen = {f"{_EPOCH_SEEN}{cluster}": epoch for cluster, epoch in epochs.items()} | {_FENCE_SEEN: fence}
        with self._database.writing() as connection:
            said = _said(connection, lock=True)
            for name, value in seen.items():
                if value > int(said.get(name, "0")):
                    _say(connection, name, str(value))

    def stranger(self, served: str, actor: str) -> None:
        """See the port."""
        with self._database.writing() as connection:
            _say(connection, f"{_STRANGER}{served}", actor)

    def hold(self, reason: str) -> None:
        """See the port."""
        with self._database.writing() as connection:
            _say(connection, _HELD, reason)

    def approving(self, actor: str) -> None:
        """See the port."""
        with self._database.writing() as connection:
            _say(connection, _APPROVING, actor)

    def seat(self, cluster: Cluster, now: datetime) -> None:
        """See the port."""
        row = {
            "epoch": cluster.epoch,
            "primary": cluster.primary,
            "state": str(cluster.state),
            "sets": sets_to_json(cluster.sets),
            "unfinished": unfinished_to_json(cluster.unfinished),
            "updated_at": now,
        }
        with self._database.writing() as connection:
            statement = insert(connection, clusters).values(name=cluster.name, **row)
            statement = statement.on_conflict_do_update(
                index_elements=["name"], set_=row, where=clusters.c.epoch < cluster.epoch
            )
            if connection.execute(statement.returning(clusters.c.name)).scalar() is None:
                raise StaleEpoch(f"{cluster.name} is at epoch {cluster.epoch} or beyond")
            record(connection, now, cluster_registered(cluster, self._actor))

    def approved(self, actor: str, now: datetime) -> None:
        """See the port."""
        with self._database.writing() as connection:
            said = _said(connection, lock=True)
            for served in _under(said, _STRANGER):
                _say(connection, f"{_SUCCEEDS}{served}", f"{actor} at {now.isoformat()}")
                connection.execute(delete(identity).where(identity.c.name == f"{_STRANGER}{served}"))
            connection.execute(delete(identity).where(identity.c.name.in_((MOVED_TO, _APPROVING, _HELD))))
            record(connection, now, _approval(said, actor))


def _said(connection: Connection, *, lock: bool = False) -> dict[str, str]:
    query = select(identity.c.name, identity.c.value).order_by(identity.c.name)
    rows = connection.execute(query.with_for_update() if lock else query).all()
    return {row.name: row.value for row in rows}


def _approval(said: Mapping[str, str], actor: str) -> Deed:
    succeeded = sorted(_under(said, _STRANGER))
    return Deed(
        actor=actor,
        verb=AuditVerb.STORE_APPROVED,
        object=f"store {said.get(STORE_ID, '')}",
        before={"held": said.get(_HELD, "")},
        after={"succeeds": succeeded},
    )


def _say(connection: Connection, name: str, value: str) -> None:
    put(connection, identity, {"name": name, "value": value})


def _under(said: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {name.removeprefix(prefix): value for name, value in said.items() if name.startswith(prefix)}
