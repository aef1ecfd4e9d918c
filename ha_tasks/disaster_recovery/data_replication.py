"""DataReplication: who streams from whom, who should, and what that means for the data at risk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ha_tasks.errors import HaTasksError
from ha_tasks.model import redis_replication
from ha_tasks.model.cluster import Cluster
from ha_tasks.model.led_by_others import is_ours, refusal
from ha_tasks.model.platform import Instance, Service, ServiceKind
from ha_tasks.model.redis_replication import RedisReading
from ha_tasks.model.replication import NodeReading, NodeWord, ReplicationReport
from ha_tasks.model.replication_judgement import ClusterFacts, report
from ha_tasks.ports.host import DatabaseAgent
from ha_tasks.ports.postgres import PostgresControl
from ha_tasks.ports.redis import RedisControl
from ha_tasks.ports.repositories import Clusters

AGENT_TIMEOUT_S = 0.5
LOOKS = 2

_Said = TypeVar("_Said")


class DataReplication:
    """Reads only."""

    def __init__(
        self,
        *,
        control: PostgresControl,
        clusters: Clusters,
        agents: DatabaseAgent,
        redis: RedisControl,
    ) -> None:
        self._control = control
        self._redis = redis
        self._clusters = clusters
        self._agents = agents

    def check(self, service: Service) -> ReplicationReport:
        """Every server and every agent is asked, all side by side; who does not answer is a finding.

        Once more where what is recorded was changed meanwhile: what was read would not fit it.
        Raises StoreUnreachable, and UsageError for what does not replicate.
        """
        if service.kind is ServiceKind.REDIS:
            return self._of_redis(service)
        cluster, nodes = self._recorded(service), service.instances
        for _ in range(LOOKS):
            judged_by = cluster
            answers = _side_by_side(nodes, lambda node: self._reading(service, node))
            words = _side_by_side(nodes, self._word)
            cluster = self._recorded(service)
            if cluster == judged_by:
                break
        facts = ClusterFacts(
            service=service.name,
            answers={node.name: said for node, said in zip(nodes, answers, strict=True)},
            addresses={node.name: node.address for node in nodes},
            cluster=judged_by,
            words={node.name: word for node, word in zip(nodes, words, strict=True)},
            ours=is_ours(service),
        )
        return report(facts)

    def _of_redis(self, service: Service) -> ReplicationReport:
        def ask(node: Instance) -> RedisReading | str:
            try:
                return self._redis.reading(service, node)
            except HaTasksError as error:  # who does not answer is part of the picture
                return str(error)

        nodes = service.instances
        answers = _side_by_side(nodes, ask)
        said = {node.name: each for node, each in zip(nodes, answers, strict=True)}
        return redis_replication.report(service.name, said, led=refusal(service))

    def _recorded(self, service: Service) -> Cluster | None:
        """None also for one that others lead: what was recorded before they did is past."""
        if not is_ours(service):
            return None
        try:
            return self._clusters.get(service.name)
        except KeyError:
            return None

    def _reading(self, service: Service, node: Instance) -> NodeReading | str:
        try:
            return self._control.reading(service, node)
        except HaTasksError as error:  # who does not answer is part of the picture
            return str(error)

    def _word(self, node: Instance) -> NodeWord:
        try:
            status = self._agents.status(node.name, timeout_s=AGENT_TIMEOUT_S)
        except HaTasksError:  # an agent only adds to what the server says
            return NodeWord()
        return NodeWord(history=status.history, binary=status.binary)


def _side_by_side(nodes: Sequence[Instance], ask: Callable[[Instance], _Said]) -> list[_Said]:
    with ThreadPoolExecutor(max_workers=max(1, len(nodes)), thread_name_prefix="replication") as pool:
        return list(pool.map(ask, nodes))
