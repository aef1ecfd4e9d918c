"""Who acknowledges commits: a node that has caught up comes into the synchronous set, a silent one goes."""

from __future__ import annotations

from ha_tasks.errors import ActionFailed, PassingFailure
from ha_tasks.model.action import Takes
from ha_tasks.model.cluster import Cluster, ClusterState
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import DataPolicy
from ha_tasks.model.sync_change import including, members_of, without
from ha_tasks.ports.action import StepContext
from ha_tasks.workflows.actions.postgres import PostgresAction
from ha_tasks.workflows.sync_sets import change_set


class StandbyAction(PostgresAction):
    """About one standby of a cluster that nobody fails over."""

    takes = Takes(needed=("instance",))

    @staticmethod
    def _node(ctx: StepContext) -> str:
        node = ctx.args["instance"]
        return str(node)

    def _led(self, ctx: StepContext) -> Cluster:
        """The cluster, only while nobody fails it over and no candidate may be a primary by now.

        A blocked one too: without a standby its primary can take no write, and so it stays blocked.
        """
        cluster = self._cluster(ctx)
        led = cluster.state in (ClusterState.STEADY, ClusterState.BLOCKED) and not cluster.unfinished
        if not led or cluster.primary == self._node(ctx):
            raise PassingFailure(f"{cluster.name} is {cluster.state}, primary {cluster.primary}")
        return cluster


class WidenSyncSet(StandbyAction):
    """Adds the node to the synchronous set by the joint rule. Fenced."""

    def check(self, ctx: StepContext) -> Json | None:
        """Nothing to do for a node that never left the set, or must never be in it."""
        cluster, node = self._led(ctx), self._node(ctx)
        if node in ctx.service.asynchronous:
            sets = " and ".join(s.setting() for s in cluster.sets)
            return {"set": sets, "kept_out": f"{node} is asynchronous"}
        done = len(cluster.sets) == 1 and node in cluster.sets[0].members
        return {"set": cluster.sets[0].setting()} if done else None

    def do(self, ctx: StepContext) -> Json:
        """Begun again after a crash it takes a new epoch: late commands of the first try are refused."""
        already = self.check(ctx)
        if already is not None:
            return already
        cluster = self._led(ctx)
        new = including(cluster.sets, self._node(ctx), cluster.primary)
        cluster = change_set(
            self._tools, ctx.service, cluster, new, under=ctx.warrant, remaining_s=ctx.remaining_s
        )
        return {"set": new.setting(), "epoch": cluster.epoch}


class NarrowSyncSet(StandbyAction):
    """Takes a node that receives nothing, or must not be in it, out of the synchronous set. Fenced.

    By the joint rule.

    So the next failure can be survived: who cannot be reached cannot confirm a revocation either.
    """

    def check(self, ctx: StepContext) -> Json | None:
        """Nothing to do for a node that is out already."""
        cluster = self._led(ctx)
        done = len(cluster.sets) == 1 and self._node(ctx) not in cluster.sets[0].members
        return {"set": cluster.sets[0].setting()} if done else None

    def do(self, ctx: StepContext) -> Json:
        """A node that receives again by now stays. ActionFailed when policy durability keeps it."""
        already = self.check(ctx)
        if already is not None:
            return already
        cluster, node = self._led(ctx), self._node(ctx)
        primary = ctx.service.instance(cluster.primary)
        receiving = self._tools.control.receiving(ctx.service, primary)
        wanted = node in receiving and node not in ctx.service.asynchronous
        if wanted and len(cluster.sets) == 1:
            return {"set": cluster.sets[0].setting(), "kept": f"{node} receives again"}
        settings = ctx.service.postgres
        policy = DataPolicy.DURABILITY if settings is None else settings.policy
        new = without(cluster.sets, node, receiving, policy)
        if new is None:
            names = ", ".join(sorted(members_of(cluster.sets)))
            raise ActionFailed(
                f"none of {names} receives from {cluster.primary}; policy {policy} lets commits wait"
            )
        cluster = change_set(
            self._tools, ctx.service, cluster, new, under=ctx.warrant, remaining_s=ctx.remaining_s
        )
        return {"set": new.setting() or "nobody: RPO > 0", "epoch": cluster.epoch}
