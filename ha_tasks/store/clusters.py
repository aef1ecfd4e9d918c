"""PostgreSQL clusters in SQL, changed by compare-and-set. See ports/repositories.py for the contract."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select, update

from ha_tasks.errors import StaleEpoch
from ha_tasks.model.cluster import Cluster, ClusterState, SyncSet, Unfinished
from ha_tasks.model.deeds import cluster_advanced, cluster_registered
from ha_tasks.ports.repositories import Warrant
from ha_tasks.store.audit import record
from ha_tasks.store.engine import Database
from ha_tasks.store.plans import sets_from_json, sets_to_json, unfinished_from_json, unfinished_to_json
from ha_tasks.store.rows import insert
from ha_tasks.store.runs import must_hold
from ha_tasks.store.tables import cluster as clusters


class SqlClusters:
    """Implements ``Clusters``; ``actor``: the process that the audit chain names."""

    def __init__(self, database: Database, actor: str = "") -> None:
        self._database = database
        self._actor = actor

    def get(self, name: str) -> Cluster:
        """See the port."""
        with self._database.reading() as connection:
            return _must_find(connection, name)

    def register(self, cluster: Cluster, now: datetime) -> Cluster:
        """See the port."""
        with self._database.writing() as connection:
            statement = insert(connection, clusters).values(
                name=cluster.name,
                epoch=cluster.epoch,
                primary=cluster.primary,
                state=str(cluster.state),
                sets=sets_to_json(cluster.sets),
                unfinished=unfinished_to_json(cluster.unfinished),
                updated_at=now,
            )
            statement = statement.on_conflict_do_nothing()
            made = connection.execute(statement.returning(clusters.c.name)).scalar()
            known = _must_find(connection, cluster.name)
            if made is not None:
                record(connection, now, cluster_registered(known, self._actor))
            return known

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
        """See the port. KeyError when there is no such cluster."""
        changes = {
            "state": state and str(state),
            "primary": primary,
            "sets": None if sets is None else sets_to_json(sets),
            "unfinished": None if unfinished is None else unfinished_to_json(unfinished),
        }
        statement = (
            update(clusters)
            .where(clusters.c.name == name, clusters.c.epoch == expected_epoch)
            .values(
                epoch=clusters.c.epoch + int(new_epoch),
                updated_at=now,
                **{column: value for column, value in changes.items() if value is not None},
            )
        )
        with self._database.writing() as connection:
            if under is not None:
                must_hold(connection, under.run, under.fence)
            before = _must_find(connection, name, lock=True)
            row = connection.execute(statement.returning(clusters)).one_or_none()
            if row is None:
                raise _stale(before, expected_epoch)
            advanced = _cluster_of(row)
            record(connection, now, *cluster_advanced(before, advanced, self._actor))
            return advanced


def must_reign(connection: Connection, name: str, epoch: int) -> None:
    """Locks the cluster's row until the transaction ends. Raises StaleEpoch when it has moved on."""
    cluster = _must_find(connection, name, lock=True)
    if cluster.epoch != epoch:
        raise _stale(cluster, epoch)


def _stale(cluster: Cluster, epoch: int) -> StaleEpoch:
    return StaleEpoch(f"{cluster.name} is at epoch {cluster.epoch}, not {epoch}")


def _must_find(connection: Connection, name: str, *, lock: bool = False) -> Cluster:
    query = select(clusters).where(clusters.c.name == name)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise KeyError(name)
    return _cluster_of(row)


def _cluster_of(row: Row[Any]) -> Cluster:
    return Cluster(
        name=row.name,
        epoch=row.epoch,
        primary=row.primary,
        state=ClusterState(row.state),
        sets=sets_from_json(row.sets),
        unfinished=unfinished_from_json(row.unfinished),
    )
