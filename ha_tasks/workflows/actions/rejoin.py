"""Bringing a PostgreSQL node back behind the recorded primary, and into the synchronous set."""

from __future__ import annotations

from ha_tasks.errors import DeadlineExceeded, PassingFailure
from ha_tasks.model.action import Takes
from ha_tasks.model.cluster import Cluster, ClusterState, sync_set_of
from ha_tasks.model.plain import Json
from ha_tasks.ports.action import StepContext
from ha_tasks.ports.host import Authority
from ha_tasks.workflows.actions.postgres import PostgresAction
from ha_tasks.workflows.cluster_moves import wait_for_set
from ha_tasks.workflows.waiting import wait_until


class _RejoinAction(PostgresAction):
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


class CheckpointPrimary(_RejoinAction):
    """Checkpoints the primary: before it, pg_rewind takes the old timeline for the current one."""

    def do(self, ctx: StepContext) -> Json:
        """Idempotent."""
        primary = self._led(ctx).primary
        self._tools.control.checkpoint(ctx.service, ctx.service.instance(primary))
        return {"primary": primary}


class RejoinNode(_RejoinAction):
    """Brings the node back as a standby: plain start, pg_rewind, or a new base backup. Fenced."""

    def do(self, ctx: StepContext) -> Json:
        """The work is a job on the node's host under this step's key: asking again does not do it twice."""
        cluster = self._led(ctx)
        by = Authority(epoch=cluster.epoch, fence=ctx.fence)
        return self._tools.agents.rejoin(
            self._node(ctx), cluster.primary, by, ctx.key, timeout_s=ctx.remaining_s()
        )


class AwaitStreaming(_RejoinAction):
    """Waits until the node streams and has caught up with the primary."""

    def do(self, ctx: StepContext) -> Json:
        """PassingFailure when it does not in time."""
        cluster, node = self._led(ctx), self._node(ctx)
        primary = ctx.service.instance(cluster.primary)
        lsn = self._tools.control.flush_lsn(ctx.service, primary)
        try:
            wait_until(
                lambda: node in self._tools.control.flushed_past(ctx.service, primary, lsn),
                clock=self._tools.clock,
                within_s=max(0.5, ctx.remaining_s() - 0.5),
                what=f"{node} streams from {cluster.primary} and has caught up",
                every_s=0.1,
            )
        except DeadlineExceeded as error:
            raise PassingFailure(str(error)) from error
        return {"streaming_from": cluster.primary}


class WidenSyncSet(_RejoinAction):
    """Adds the node to the synchronous set by the joint rule. Fenced.

    Both sets are recorded first, so that a failover in the middle must satisfy both; then the setting
    is applied, every WAL sender that may have read only the old one is ended, and the new set is
    recorded alone once it has what the primary has.
    """

    def check(self, ctx: StepContext) -> Json | None:
        """Nothing to do for a node that never left the set."""
        cluster = self._led(ctx)
        done = len(cluster.sets) == 1 and self._node(ctx) in cluster.sets[0].members
        return {"set": cluster.sets[0].setting()} if done else None

    def do(self, ctx: StepContext) -> Json:
        """Begun again after a crash it takes a new epoch: late commands of the first try are refused."""
        already = self.check(ctx)
        if already is not None:
            return already
        cluster = self._led(ctx)
        new = sync_set_of({*cluster.sets[-1].members, self._node(ctx)} - {cluster.primary})
        sets = (*(s for s in cluster.sets if s != new), new)
        cluster = self._tools.clusters.advance(
            cluster.name, cluster.epoch, self._tools.clock.now(), new_epoch=True, sets=sets
        )
        primary = ctx.service.instance(cluster.primary)
        by = Authority(epoch=cluster.epoch, fence=ctx.fence)
        self._tools.agents.set_sync(cluster.primary, new.setting(), by)
        self._tools.control.end_walsenders(ctx.service, primary, new.members)
        wait_for_set(self._tools, ctx.service, cluster.primary, new, ctx.remaining_s())
        self._tools.clusters.advance(
            cluster.name, cluster.epoch, self._tools.clock.now(), new_epoch=False, sets=(new,)
        )
        return {"set": new.setting(), "epoch": cluster.epoch}


class RouteReads(_RejoinAction):
    """Opens the node for reads, and whoever else streams. Converges."""

    def do(self, ctx: StepContext) -> Json:
        """Idempotent."""
        cluster = self._led(ctx)
        primary = ctx.service.instance(cluster.primary)
        streaming = self._tools.control.streaming(ctx.service, primary)
        nodes = sorted(streaming & {i.name for i in ctx.service.instances})
        self._tools.router.route_reads(ctx.service, nodes, under=ctx.warrant)
        self._tools.router.route_writes(ctx.service, cluster.primary, under=ctx.warrant)
        return {"reads": nodes}
