"""PostgreSQL clusters in SQL, changed by compare-and-set. See ports/repositories.py for the contract."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select, update

from ha_tasks.errors import StaleEpoch
from ha_tasks.model.cluster import Cluster, ClusterState, SyncSet, Unfinished
from ha_tasks.store.engine import Database
from ha_tasks.store.plans import sets_from_json, sets_to_json, unfinished_from_json, unfinished_to_json
from ha_tasks.store.rows import insert
from ha_tasks.store.tables import cluster as clusters


class SqlClusters:
    """Implements ``Clusters``."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
            connection.execute(statement.on_conflict_do_nothing())
            return _must_find(connection, cluster.name)

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
            row = connection.execute(statement.returning(clusters)).one_or_none()
            if row is None:
                epoch = _must_find(connection, name).epoch
                raise StaleEpoch(f"{name} is at epoch {epoch}, not {expected_epoch}")
            return _cluster_of(row)


def _must_find(connection: Connection, name: str) -> Cluster:
    row = connection.execute(select(clusters).where(clusters.c.name == name)).one_or_none()
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
