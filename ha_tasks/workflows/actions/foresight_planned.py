"""What each step of planned work would change now, for its plan; beside foresight.py. Reads only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from ha_tasks.errors import ActionFailed
from ha_tasks.model.cluster import Cluster, sync_set_of
from ha_tasks.model.switchover import objections
from ha_tasks.names import ActionName
from ha_tasks.ports.action import Change, Difference, StepContext
from ha_tasks.workflows.cluster_moves import PostgresTools
from ha_tasks.workflows.switchover_facts import switchover_facts

Foresight: TypeAlias = Callable[[PostgresTools, StepContext], Difference]


def _cluster(tools: PostgresTools, ctx: StepContext) -> Cluster:
    try:
        return tools.clusters.get(ctx.service.name)
    except KeyError as error:
        name = ctx.service.name
        raise ActionFailed(f"{name} is not in care yet; look first: ha-tasks adopt {name}") from error


def check_switchover(tools: PostgresTools, ctx: StepContext) -> Difference:
    """No change: whether it may begin."""
    facts = switchover_facts(tools, ctx.service, _cluster(tools, ctx), str(ctx.args["instance"]))
    found = objections(facts)
    text = f"{facts.candidate} is to take over from {facts.cluster.primary}"
    return Difference(text=text, doubt=f"it would refuse: {'; '.join(found)}" if found else "")


def checkpoint_nodes(tools: PostgresTools, ctx: StepContext) -> Difference:
    """No change: the shutdown is short then."""
    return Difference(text=f"a checkpoint of {_cluster(tools, ctx).primary} and {ctx.args['instance']}")


def pause_pooler(_: PostgresTools, ctx: StepContext) -> Difference:
    """Whether clients wait, or lose their sessions."""
    pooler = ctx.service.pooler
    if pooler is None:
        return Difference(text="no pooler: clients lose their sessions at the next step, and come back")
    changes = [Change(what=f"pgbouncer {a}", before="serves", after="clients wait") for a in pooler.addresses]
    return Difference(text=f"between two transactions of {pooler.database}", changes=tuple(changes))


def stop_primary(tools: PostgresTools, ctx: StepContext) -> Difference:
    """The primary."""
    primary = _cluster(tools, ctx).primary
    change = Change(what=primary, before="primary", after="shut down cleanly")
    return Difference(text="its last record goes to the standbys", changes=(change,))


def choose_successor(tools: PostgresTools, ctx: StepContext) -> Difference:
    """The candidate, and who acknowledges its commits."""
    cluster, name = _cluster(tools, ctx), str(ctx.args["instance"])
    members = sorted({m for s in cluster.sets for m in s.members} - {name, cluster.primary})
    survivors = sync_set_of(members or [cluster.primary]).members
    change = Change(what="candidate", before="none", after=name)
    output = {"candidate": name, "survivors": list(survivors)}
    return Difference(text=f"only if {name} has that last record", changes=(change,), output=output)


def resume_pooler(_: PostgresTools, ctx: StepContext) -> Difference:
    """Clients go on."""
    pooler = ctx.service.pooler
    if pooler is None:
        return Difference(text="no pooler: nothing to do")
    changes = [Change(what=f"pgbouncer {a}", before="clients wait", after="serves") for a in pooler.addresses]
    return Difference(text=f"clients of {pooler.database} go on", changes=tuple(changes))


def demote_primary(tools: PostgresTools, ctx: StepContext) -> Difference:
    """The old primary."""
    old, new = _cluster(tools, ctx).primary, ctx.outputs.get("choose_candidate", {}).get("candidate", "")
    change = Change(what=old, before="shut down", after=f"follows {new or 'the successor'}")
    return Difference(text="without a rewind; else the rejoin brings it back", changes=(change,))


def restore_redundancy(tools: PostgresTools, ctx: StepContext) -> Difference:
    """The synchronous set."""
    cluster = _cluster(tools, ctx)
    survivors = ctx.outputs.get("choose_candidate", {}).get("survivors", [])
    before, after = sync_set_of(survivors), sync_set_of({*survivors, cluster.primary})
    change = Change(what="synchronous set", before=before.setting() or "(nobody)", after=after.setting())
    return Difference(
        text=f"{cluster.primary} serves reads, too", changes=(change,) if before != after else ()
    )


def close_reads(tools: PostgresTools, ctx: StepContext) -> Difference:
    """The standby in the balancer."""
    node, members = str(ctx.args["instance"]), {m for s in _cluster(tools, ctx).sets for m in s.members}
    alone = members == {node}
    text = f"readers of {node} go elsewhere" + ("; commits wait while it is away" if alone else "")
    return Difference(text=text)


def restart_standby(_: PostgresTools, ctx: StepContext) -> Difference:
    """The standby's process."""
    node = str(ctx.args["instance"])
    return Difference(text=f"{node}: the programs and settings of its disk come into force")


PLANNED: Mapping[ActionName, Foresight] = MappingProxyType(
    {
        ActionName.CHECK_SWITCHOVER: check_switchover,
        ActionName.CHECKPOINT_NODES: checkpoint_nodes,
        ActionName.PAUSE_POOLER: pause_pooler,
        ActionName.STOP_PRIMARY: stop_primary,
        ActionName.CHOOSE_SUCCESSOR: choose_successor,
        ActionName.RESUME_POOLER: resume_pooler,
        ActionName.DEMOTE_PRIMARY: demote_primary,
        ActionName.RESTORE_REDUNDANCY: restore_redundancy,
        ActionName.CLOSE_READS: close_reads,
        ActionName.RESTART_STANDBY: restart_standby,
    }
)
