"""What each step of a PostgreSQL recovery would change now, for its plan. Reads only, and nothing for long.

Nobody is asked for more than half a second, and who does not answer is said to be silent: a plan is read
while something is down. A step finds in ``ctx.outputs`` what the steps before it would hand on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import TypeAlias

from ha_tasks.errors import ActionFailed, HaTasksError
from ha_tasks.model.balancer import ServerState, latest
from ha_tasks.model.cluster import (
    Cluster,
    Revoked,
    SyncSet,
    format_lsn,
    promotion_is_safe,
    sync_set_of,
)
from ha_tasks.model.failover import choose_candidate, spare_survivors, survivors
from ha_tasks.model.platform import DataPolicy
from ha_tasks.model.precedence import ranks
from ha_tasks.model.sync_change import including, without
from ha_tasks.names import ActionName
from ha_tasks.ports.action import Change, Difference, StepContext
from ha_tasks.ports.host import NodeStatus
from ha_tasks.workflows.actions.foresight_planned import PLANNED
from ha_tasks.workflows.cluster_moves import PostgresTools

Foresight: TypeAlias = Callable[[PostgresTools, StepContext], Difference]
ASKED_S = 0.5


def may_stand_alone(ctx: StepContext) -> bool:
    """By policy, or because a person accepts a loss: until a standby is back, commits wait for nobody."""
    settings = ctx.service.postgres
    available = settings is not None and settings.policy is DataPolicy.AVAILABILITY
    return available or ctx.accepts is not None


def foreseen(tools: PostgresTools, ctx: StepContext) -> Difference:
    """What the step would change. ActionFailed when the cluster is not in care."""
    return FORESIGHT[ActionName(ctx.action)](tools, ctx)


def _cluster(tools: PostgresTools, ctx: StepContext) -> Cluster:
    try:
        return tools.clusters.get(ctx.service.name)
    except KeyError as error:
        name = ctx.service.name
        raise ActionFailed(f"{name} is not in care yet; look first: ha-tasks adopt {name}") from error


def _standbys(cluster: Cluster) -> list[str]:
    sets = (*cluster.sets, *(u.sync_set for u in cluster.unfinished))
    names = {m for s in sets for m in s.members} | {u.candidate for u in cluster.unfinished}
    return sorted(names - {cluster.primary})


def _asked(tools: PostgresTools, nodes: Iterable[str]) -> dict[str, NodeStatus | None]:
    """What each agent says of its node, side by side; None: it is silent."""
    names = list(nodes)

    def answer(node: str) -> NodeStatus | None:
        try:
            return tools.agents.status(node, timeout_s=ASKED_S)
        except HaTasksError:  # a silent agent is an answer here
            return None

    with ThreadPoolExecutor(max_workers=max(1, len(names))) as pool:
        return dict(zip(names, pool.map(answer, names), strict=True))


def _in_words(status: NodeStatus | None) -> str:
    if status is None:
        return "its agent is silent"
    if status.in_recovery is None:
        return f"postgres {status.postmaster}"
    if not status.in_recovery:
        return "primary"
    return f"follows {status.upstream}" if status.upstream else "follows nobody"


def _servers(
    tools: PostgresTools, backend: str | None, then: Mapping[str, ServerState], cut: bool = False
) -> list[Change]:
    """The servers of a backend whose state would be another one."""
    now = latest(tools.wanted.all())
    changes = []
    for server, state in then.items():
        row = now.get((backend or "", server))
        before = "as configured" if row is None else str(row.state)
        if backend is not None and before != state:
            after = f"{state}, sessions ended" if cut and state is ServerState.MAINT else str(state)
            changes.append(Change(what=f"{backend}/{server}", before=before, after=after))
    return changes


def _setting(sets: Iterable[SyncSet]) -> str:
    return " and ".join(s.setting() or "(nobody)" for s in sets) or "(nobody)"


def _chosen(ctx: StepContext) -> tuple[str, list[str]] | None:
    """(candidate, survivors), when it can be told who that will be."""
    output = ctx.outputs.get("choose_candidate", {})
    return (output["candidate"], output["survivors"]) if "candidate" in output else None


NOT_TOLD = Difference(text="about the candidate, whoever it will be")


def open_epoch(tools: PostgresTools, ctx: StepContext) -> Difference:
    """The epoch, by compare-and-set."""
    cluster = _cluster(tools, ctx)
    change = Change(
        what=f"epoch of {cluster.name}",
        before=f"{cluster.epoch} {cluster.state}",
        after=f"{cluster.epoch + 1} failing",
    )
    output = {"epoch": cluster.epoch + 1, "primary": cluster.primary}
    return Difference(text="this run leads from here on", changes=(change,), output=output)


def isolate_primary(tools: PostgresTools, ctx: StepContext) -> Difference:
    """The old primary's servers in the balancer."""
    primary, routing = _cluster(tools, ctx).primary, ctx.service.routing
    backends = (routing.backend, routing.read_backend) if routing else ()
    out = {primary: ServerState.MAINT}
    changes = [change for backend in backends for change in _servers(tools, backend, out, cut=True)]
    return Difference(text=f"takes {primary} out of the balancer", changes=tuple(changes))


def fence_primary(tools: PostgresTools, ctx: StepContext) -> Difference:
    """The old primary's processes."""
    primary = _cluster(tools, ctx).primary
    status = _asked(tools, [primary])[primary]
    change = Change(what=primary, before=_in_words(status), after="every process ended (SIGKILL)")
    if status is None:
        return Difference(text=f"the agent of {primary} is silent: it is not waited for", changes=())
    return Difference(text=f"ends what is left of {primary} on its host", changes=(change,))


def revoke_standbys(tools: PostgresTools, ctx: StepContext) -> Difference:
    """Who receives from whom."""
    cluster = _cluster(tools, ctx)
    found = _asked(tools, _standbys(cluster))
    changes = tuple(
        Change(what=node, before=_in_words(status), after="receives from nobody")
        for node, status in found.items()
    )
    text = f"goes on only with R + W > N of {_setting(cluster.sets)}"
    able = [node for node, s in found.items() if s is not None and s.in_recovery]
    safe = promotion_is_safe(cluster.sets, able)
    few = f"only {', '.join(able)}" if able else "nobody"
    doubt = "" if safe else f"it would refuse: {few} could be revoked now"
    return Difference(text=text, changes=changes, doubt=doubt)


def choose(tools: PostgresTools, ctx: StepContext) -> Difference:
    """Who would be promoted, if every standby that answers now could be revoked."""
    cluster = _cluster(tools, ctx)
    members = _standbys(cluster)
    found = _asked(tools, members)
    ahead = _as_revoked(found)
    best = choose_candidate(ahead, cluster.unfinished, ranks=ranks(ctx.service, cluster.primary))
    if best is None:
        text = f"the furthest of {', '.join(members) or 'nobody'}"
        return Difference(text=text, doubt="it would refuse: none of them answers now")
    status = found[best.node]
    left_at = () if status is None else status.history or ()
    able = survivors(best, ahead, cluster.unfinished, left_at)
    followers = [n for n in able if n not in ctx.service.asynchronous]
    left = followers or _spares(tools, ctx, cluster, best)
    if not left and not may_stand_alone(ctx):
        return Difference(
            text=f"only {best.node} answers now", doubt=f"it would refuse: {best.node} would have no standby"
        )
    text = f"{best.node} by what is known now ({best.timeline}:{format_lsn(best.lsn)}); the furthest is taken"
    change = Change(what="candidate", before="none", after=best.node)
    return Difference(text=text, changes=(change,), output={"candidate": best.node, "survivors": left})


def _spares(tools: PostgresTools, ctx: StepContext, cluster: Cluster, best: Revoked) -> list[str]:
    inside = {cluster.primary, *_standbys(cluster)}
    others = {i.name for i in ctx.service.instances} - inside - ctx.service.asynchronous
    return spare_survivors(cluster, best, _as_revoked(_asked(tools, sorted(others))))


def _as_revoked(found: Mapping[str, NodeStatus | None]) -> list[Revoked]:
    return [
        Revoked(
            node=node,
            timeline=s.timeline,
            lsn=s.lsn,
            followed=s.upstream or s.left,
            begun=s.promotion_begun,
        )
        for node, s in found.items()
        if s is not None and s.timeline is not None and s.lsn is not None
    ]


def repoint_survivors(_: PostgresTools, ctx: StepContext) -> Difference:
    """Whom the other standbys follow."""
    chosen = _chosen(ctx)
    if chosen is None:
        return NOT_TOLD
    changes = (Change(what=n, before="receives from nobody", after=f"follows {chosen[0]}") for n in chosen[1])
    return Difference(text=f"has the others follow {chosen[0]}", changes=tuple(changes))


def promote_candidate(_: PostgresTools, ctx: StepContext) -> Difference:
    """The new primary."""
    chosen = _chosen(ctx)
    if chosen is None:
        return NOT_TOLD
    primary, others = chosen
    awaited = sync_set_of(others).setting() or "nobody"
    changes = (
        Change(what=primary, before="standby", after="primary, on a new timeline"),
        Change(what=f"commits of {primary}", before="none", after=f"wait for {awaited}"),
    )
    return Difference(text=f"promotes {primary}", changes=changes)


def route_writes(tools: PostgresTools, ctx: StepContext) -> Difference:
    """Who is ready for writes, who for reads."""
    chosen, routing = _chosen(ctx), ctx.service.routing
    if chosen is None or routing is None:
        return NOT_TOLD
    primary, others = chosen
    old = ctx.outputs.get("open_epoch", {}).get("primary")
    writes = {i.name: _state(i.name == primary) for i in ctx.service.instances if i.name != old}
    reads = {i.name: _state(i.name in others) for i in ctx.service.instances if i.name != old}
    changes = [*_servers(tools, routing.backend, writes), *_servers(tools, routing.read_backend, reads)]
    return Difference(text=f"leads writes to {primary}", changes=tuple(changes))


def _state(ready: bool) -> ServerState:
    return ServerState.READY if ready else ServerState.MAINT


def commit_primary(tools: PostgresTools, ctx: StepContext) -> Difference:
    """What is recorded of the cluster."""
    cluster, chosen = _cluster(tools, ctx), _chosen(ctx)
    if chosen is None:
        return NOT_TOLD
    after = sync_set_of(chosen[1]).setting() or "(nobody)"
    changes = (
        Change(what=f"primary of {cluster.name}", before=cluster.primary, after=chosen[0]),
        Change(what="synchronous set", before=_setting(cluster.sets), after=after),
        Change(what=f"state of {cluster.name}", before="failing", after="steady"),
    )
    return Difference(text="once that set has what the new primary has", changes=changes)


def checkpoint_primary(tools: PostgresTools, ctx: StepContext) -> Difference:
    """No change: pg_rewind needs it."""
    return Difference(text=f"a checkpoint of {_cluster(tools, ctx).primary}; no data changes")


def rejoin_node(tools: PostgresTools, ctx: StepContext) -> Difference:
    """The node as a standby."""
    primary, node = _cluster(tools, ctx).primary, str(ctx.args["instance"])
    change = Change(what=node, before=_in_words(_asked(tools, [node])[node]), after=f"follows {primary}")
    return Difference(text="plain start, else pg_rewind, else a new base backup", changes=(change,))


def await_streaming(tools: PostgresTools, ctx: StepContext) -> Difference:
    """No change: it waits."""
    text = f"waits until {ctx.args['instance']} has caught up with {_cluster(tools, ctx).primary}"
    return Difference(text=text)


def widen_sync_set(tools: PostgresTools, ctx: StepContext) -> Difference:
    """The synchronous set, by the joint rule."""
    cluster, node = _cluster(tools, ctx), str(ctx.args["instance"])
    before = _setting(cluster.sets)
    if node in ctx.service.asynchronous:
        return Difference(text=f"{node} is asynchronous (sync = false): it stays out of the set")
    after = including(cluster.sets, node, cluster.primary).setting()
    if before == after:
        return Difference(text=f"{node} is in the set: nothing to do")
    change = Change(what="synchronous set", before=before, after=after)
    return Difference(text="both sets hold until the new one has everything", changes=(change,))


def narrow_sync_set(tools: PostgresTools, ctx: StepContext) -> Difference:
    """The synchronous set without the node, by the joint rule."""
    cluster, node, settings = _cluster(tools, ctx), str(ctx.args["instance"]), ctx.service.postgres
    policy = DataPolicy.DURABILITY if settings is None else settings.policy
    try:
        receiving = tools.control.receiving(ctx.service, ctx.service.instance(cluster.primary))
    except HaTasksError as error:
        return Difference(text=f"takes {node} out of the set", doubt=f"it would fail: {error}")
    if node in receiving and node not in ctx.service.asynchronous:
        return Difference(text=f"{node} receives from {cluster.primary}: it stays in the set")
    new = without(cluster.sets, node, receiving, policy)
    if new is None:
        doubt = f"it would refuse: nobody else receives, and policy {policy} lets commits wait"
        return Difference(text=f"takes {node} out of the set", doubt=doubt)
    change = Change(what="synchronous set", before=_setting(cluster.sets), after=new.setting() or "(nobody)")
    return Difference(text="both sets hold until the new one has everything", changes=(change,))


def route_reads(tools: PostgresTools, ctx: StepContext) -> Difference:
    """The node in the balancer, for reads."""
    node, routing = str(ctx.args["instance"]), ctx.service.routing
    backend = routing.read_backend if routing else None
    changes = _servers(tools, backend, {node: ServerState.READY})
    return Difference(text=f"opens {node} for reads", changes=tuple(changes))


FORESIGHT: Mapping[ActionName, Foresight] = MappingProxyType(
    {
        ActionName.OPEN_EPOCH: open_epoch,
        ActionName.ISOLATE_PRIMARY: isolate_primary,
        ActionName.FENCE_PRIMARY: fence_primary,
        ActionName.REVOKE_STANDBYS: revoke_standbys,
        ActionName.CHOOSE_CANDIDATE: choose,
        ActionName.REPOINT_SURVIVORS: repoint_survivors,
        ActionName.PROMOTE_CANDIDATE: promote_candidate,
        ActionName.ROUTE_WRITES: route_writes,
        ActionName.COMMIT_PRIMARY: commit_primary,
        ActionName.CHECKPOINT_PRIMARY: checkpoint_primary,
        ActionName.REJOIN_NODE: rejoin_node,
        ActionName.AWAIT_STREAMING: await_streaming,
        ActionName.WIDEN_SYNC_SET: widen_sync_set,
        ActionName.ROUTE_READS: route_reads,
        **PLANNED,
        ActionName.NARROW_SYNC_SET: narrow_sync_set,
    }
)
