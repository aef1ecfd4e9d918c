"""Standbys outside of the recorded sets: they prove nothing, but one may acknowledge for a lone candidate.

After a set was narrowed to one standby, that one is all that a failover asks. Is the other back by then, and
not in the set yet, the candidate need not stand alone.
"""

from __future__ import annotations

from ha_tasks.model.cluster import Cluster, Revoked
from ha_tasks.model.failover import spare_survivors
from ha_tasks.model.platform import Service
from ha_tasks.ports.action import StepContext
from ha_tasks.ports.host import Authority, NodeStatus
from ha_tasks.workflows.actions.postgres.base import side_by_side, standbys_of
from ha_tasks.workflows.cluster_moves import PostgresTools

ASKED_S = 2.0
"""So long a spare is asked to stop receiving; the candidate's clients wait meanwhile."""


def outside(service: Service, cluster: Cluster) -> list[str]:
    """Its nodes that could be in a set, and are in none, nor candidates, nor the recorded primary."""
    known = {cluster.primary, *standbys_of(cluster), *service.asynchronous}
    return [i.name for i in service.instances if i.name not in known]


def asynchronous(service: Service, cluster: Cluster) -> list[str]:
    """Its nodes that must never be in a set, and that no failover asks by itself."""
    return sorted(service.asynchronous - {cluster.primary, *standbys_of(cluster)})


def revoked_spares(tools: PostgresTools, ctx: StepContext, cluster: Cluster, chosen: Revoked) -> list[str]:
    """Who may follow the candidate as it stands, having stopped to receive. Fenced.

    Only who follows the recorded primary is commanded: ``give_back`` has it follow that again.
    """
    by = Authority(epoch=cluster.epoch, fence=ctx.fence)
    words = side_by_side(outside(ctx.service, cluster), tools.agents.status)
    follow = [n for n, word in words.items() if isinstance(word, NodeStatus) and _follows(word, cluster)]
    answers = side_by_side(follow, lambda node: tools.agents.revoke(node, by, timeout_s=ASKED_S))
    revoked = [a for a in answers.values() if isinstance(a, Revoked)]
    return spare_survivors(cluster, chosen, revoked)


def give_back(tools: PostgresTools, ctx: StepContext, cluster: Cluster, mine: int) -> None:
    """Whoever was commanded in epoch ``mine`` follows the recorded primary again; the silent are rejoined."""
    by = Authority(epoch=cluster.epoch, fence=ctx.fence)

    def follow(node: str) -> None:
        word = tools.agents.status(node)
        if word.epoch == mine and _follows(word, cluster):
            tools.agents.follow(node, cluster.primary, by, timeout_s=1.0)

    side_by_side([*outside(ctx.service, cluster), *asynchronous(ctx.service, cluster)], follow)


def _follows(word: NodeStatus, cluster: Cluster) -> bool:
    clean = word.in_recovery is True and word.promotion_begun is None
    return clean and (word.upstream or word.left) == cluster.primary
