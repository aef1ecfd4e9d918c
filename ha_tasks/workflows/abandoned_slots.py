"""Slots of nodes that were taken out of the inventory are dropped, and nobody else's.

Ours is a slot only by the record: an applied revision of the inventory had a node of that slot, and the
newest has none. A slot that is named like ours and of which no revision tells may be somebody else's.
"""

from __future__ import annotations

from collections.abc import Callable

from ha_tasks.errors import HaTasksError
from ha_tasks.model.cluster import Cluster, ClusterState
from ha_tasks.model.plain import Facts
from ha_tasks.model.platform import Service
from ha_tasks.model.replication_findings import Finding
from ha_tasks.model.replication_slots import left_by
from ha_tasks.model.sync_change import members_of
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.host import Authority, DatabaseAgent
from ha_tasks.ports.repositories import Clusters, Journal
from ha_tasks.ports.revisions import Revisions


class AbandonedSlots:
    """Fenced by the epoch; the agent looks once more, and refuses a slot of a peer or one that is read."""

    def __init__(
        self,
        *,
        revisions: Revisions,
        clusters: Clusters,
        agents: DatabaseAgent,
        journal: Journal,
        clock: Clock,
        stopped: Callable[[str], bool],
        held: Callable[[], str | None],
    ) -> None:
        """``stopped``: by the stop switch; ``held``: why store or inventory are not to be acted on."""
        self._revisions = revisions
        self._clusters = clusters
        self._agents = agents
        self._journal = journal
        self._clock = clock
        self._stopped = stopped
        self._held = held

    def drop(self, service: Service, found: Finding) -> str:
        """What was done about the slot that was found, or why it could not be; '' for nothing to do."""
        if self._stopped(service.name) or self._held() is not None:
            return ""
        try:
            cluster = self._clusters.get(service.name)
        except KeyError:  # not in care
            return ""
        left = left_by(found.subject, service.name, self._history())
        if left is None or not _may_lose_it(cluster, left[0]):
            return ""
        node, no = left
        by = Authority(epoch=cluster.epoch, fence=self._journal.next_fence(self._clock.now()))
        whose = (
            f"slot {found.subject} on {found.node}: {node}, whose it was, left the inventory by revision {no}"
        )
        try:
            self._agents.drop_slot(found.node, found.subject, by)
        except HaTasksError as error:
            return f"cannot drop {whose}; {error}"
        return f"dropped {whose}"

    def _history(self) -> list[tuple[int, Facts]]:
        """Every revision, newest first."""
        newest = self._revisions.newest()
        numbers = range(newest.no if newest else 0, 0, -1)
        return [(no, self._revisions.get(no).body) for no in numbers]


def _may_lose_it(cluster: Cluster, node: str) -> bool:
    """Not one that still counts in a recorded set, and not while who leads is being settled."""
    return cluster.state is ClusterState.STEADY and node not in members_of(cluster.sets)
