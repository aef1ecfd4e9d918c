"""Telling every node's agent what the store says: who is the primary, since which epoch.

An agent has no way to the store of its own. By these words it knows that somebody leads, by their absence
that nobody does, and a primary that slept through its own failover learns that another one took over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from ha_tasks.errors import HaTasksError
from ha_tasks.model.cluster import ClusterState
from ha_tasks.model.platform import Platform
from ha_tasks.model.self_fence import Standing
from ha_tasks.ports.host import DatabaseAgent
from ha_tasks.ports.repositories import Clusters
from ha_tasks.workflows.store_watch import is_led

TIMEOUT_S = 0.5


class Standings:
    """Every observer does this each second."""

    def __init__(
        self,
        *,
        platform: Platform,
        clusters: Clusters,
        agents: DatabaseAgent,
        held: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._platform = platform
        self._clusters = clusters
        self._agents = agents
        self._held = held

    def tell(self) -> None:
        """Side by side, as long as the slowest agent. A store that is held says nothing to anybody."""
        if self._held() is not None:
            return
        words = list(self._words())
        if words:
            with ThreadPoolExecutor(len(words), thread_name_prefix="standing") as pool:
                list(pool.map(lambda word: self._say(*word), words))

    def _words(self) -> Iterator[tuple[str, Standing]]:
        for service in filter(is_led, self._platform.services.values()):
            try:
                cluster = self._clusters.get(service.name)
            except KeyError:
                continue
            standing = Standing(
                epoch=cluster.epoch,
                primary=cluster.primary,
                steady=cluster.state is ClusterState.STEADY,
            )
            yield from ((instance.name, standing) for instance in service.instances)

    def _say(self, node: str, standing: Standing) -> None:
        with suppress(HaTasksError):  # who is silent is told again in a second
            self._agents.tell(node, standing, timeout_s=TIMEOUT_S)
