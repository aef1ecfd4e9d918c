"""A promotion that cannot be proved to lose nothing: what has to be shown first, and what is recorded."""

from __future__ import annotations

from collections.abc import Collection

from ha_tasks.errors import HaTasksError, NotSafe
from ha_tasks.model.cluster import Cluster, Revoked, format_lsn
from ha_tasks.model.failover import choose_candidate, possible_primaries
from ha_tasks.model.plain import Json
from ha_tasks.model.playbook import Acceptance
from ha_tasks.model.precedence import ranks
from ha_tasks.ports.action import StepContext
from ha_tasks.ports.host import Authority
from ha_tasks.workflows.cluster_moves import PostgresTools

FENCED_WITHIN_S = 2.0
OFF_WITHIN_S = 20.0
"""A power switch takes its time; nobody can write meanwhile anyway."""


def accepted_loss(
    tools: PostgresTools,
    ctx: StepContext,
    cluster: Cluster,
    revoked: Collection[Revoked],
    accepts: Acceptance,
) -> Json:
    """What may be lost by promoting the most advanced of the revoked, within what was accepted.

    NotSafe, with what is missing, unless whoever may be a primary is proved dead and the loss is known and
    small enough. Without that proof the old primary could go on acknowledging with a standby that is silent:
    how much that would be nobody could know.
    """
    order = ranks(ctx.service, cluster.primary)
    chosen = choose_candidate(revoked, cluster.unfinished, ranks=order)
    if chosen is None:
        raise NotSafe("no standby could be revoked, so there is nobody to promote")
    if accepts.primary_at is None:
        raise NotSafe(
            f"how much would be lost is not known: no position of {cluster.primary} was seen before it failed"
        )
    lost = max(0, accepts.primary_at - chosen.lsn)
    if lost > accepts.bytes:
        raise NotSafe(
            f"{lost} bytes would be lost: {cluster.primary} was at {format_lsn(accepts.primary_at)}, "
            f"{chosen.node} is at {format_lsn(chosen.lsn)}; accepted are {accepts.bytes}; to accept it: "
            f"ha-tasks recover {cluster.name} --accept-data-loss={lost}"
        )
    doubted = {cluster.primary, *(u.candidate for u in possible_primaries(cluster, revoked))}
    dead = {node: _death_of(tools, ctx, cluster, node, accepts) for node in sorted(doubted - {chosen.node})}
    missing = [node for node, how in dead.items() if not how]
    if missing:
        raise NotSafe(_unproved(cluster, missing))
    return {
        "bytes": lost,
        "accepted": accepts.bytes,
        "node": chosen.node,
        "unknown": f"what {cluster.primary} acknowledged after it was last seen at "
        f"{format_lsn(accepts.primary_at)}",
        "dead": dead,
    }


def _death_of(
    tools: PostgresTools, ctx: StepContext, cluster: Cluster, node: str, accepts: Acceptance
) -> str:
    """By whose word the node is dead; empty: by nobody's."""
    by = Authority(epoch=cluster.epoch, fence=ctx.fence)
    try:
        tools.agents.fence(node, by, timeout_s=FENCED_WITHIN_S)
    except HaTasksError:  # there are other ways to know it
        pass
    else:
        return "its agent"
    if node in accepts.off:
        return "a person"
    host = ctx.service.instance(node).host
    try:
        within_s = min(OFF_WITHIN_S, ctx.remaining_s())
        off = tools.power is not None and tools.power.off(host, timeout_s=within_s)
    except HaTasksError:  # nothing is proved, which is what the caller says
        return ""
    return "its power switch" if off else ""


def _unproved(cluster: Cluster, nodes: list[str]) -> str:
    names = ", ".join(nodes)
    options = " ".join(f"--confirm-off={node}" for node in nodes)
    return (
        f"{names} may still take writes: neither agent nor power switch has ended it; switch it off, then: "
        f"ha-tasks recover {cluster.name} --accept-data-loss=BYTES {options}"
    )
