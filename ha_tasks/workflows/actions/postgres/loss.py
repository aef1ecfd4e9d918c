"""A promotion that cannot be proved to lose nothing: what has to be shown first, and what is recorded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

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
    deaths = {node: _death_of(tools, ctx, cluster, node, accepts) for node in sorted(doubted - {chosen.node})}
    missing = {node: death.why_not for node, death in deaths.items() if not death.by}
    if missing:
        raise NotSafe(_unproved(cluster, missing))
    return {
        "bytes": lost,
        "accepted": accepts.bytes,
        "node": chosen.node,
        "unknown": f"what {cluster.primary} acknowledged after it was last seen at "
        f"{format_lsn(accepts.primary_at)}",
        "dead": {node: death.by for node, death in deaths.items()},
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Death:
    """``by``: by whose word a node is dead; empty: by nobody's, and ``why_not`` is what each way came to."""

    by: str = ""
    why_not: str = ""


def _death_of(
    tools: PostgresTools, ctx: StepContext, cluster: Cluster, node: str, accepts: Acceptance
) -> _Death:
    by = Authority(epoch=cluster.epoch, fence=ctx.fence)
    try:
        tools.agents.fence(node, by, timeout_s=FENCED_WITHIN_S)
    except HaTasksError as error:  # there are other ways to know it
        said = f"agent: {error}"
    else:
        return _Death(by="its agent")
    if node in accepts.off:
        return _Death(by="a person")
    switch = _switched_off(tools, ctx, ctx.service.instance(node).host)
    return replace(switch, why_not=f"{said}; power switch: {switch.why_not}")


def _switched_off(tools: PostgresTools, ctx: StepContext, host: str) -> _Death:
    within_s = min(OFF_WITHIN_S, ctx.remaining_s())
    try:
        off = tools.power is not None and tools.power.off(host, timeout_s=within_s)
    except HaTasksError as error:  # nothing is proved, and a person mends it by what it says
        return _Death(why_not=str(error))
    return _Death(by="its power switch") if off else _Death(why_not=f"none is configured for {host}")


def _unproved(cluster: Cluster, missing: Mapping[str, str]) -> str:
    names = ", ".join(missing)
    why = "; ".join(f"{node}: {said}" for node, said in missing.items())
    options = " ".join(f"--confirm-off={node}" for node in missing)
    return (
        f"{names} may still take writes: neither agent nor power switch has ended it ({why}); switch it off, "
        f"then: ha-tasks recover {cluster.name} --accept-data-loss=BYTES {options}"
    )
