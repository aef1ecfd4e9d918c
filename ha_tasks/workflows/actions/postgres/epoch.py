"""The epoch of a failover: opened by compare-and-set, and closed by recording the new primary."""

from __future__ import annotations

from ha_tasks.errors import (
    StaleEpoch,
)
from ha_tasks.model.cluster import (
    Cluster,
    ClusterState,
    sync_set_of,
)
from ha_tasks.model.plain import Json
from ha_tasks.ports.action import StepContext
from ha_tasks.workflows.actions.postgres.base import PostgresAction
from ha_tasks.workflows.cluster_moves import (
    block,
    everybody_follows,
    unblock,
    wait_for_set,
    writes_are_taken,
)

LOOKED_FOR_S = 1.0
"""So long the end of a way back looks for a write that is taken. What is still in the way then (a standby
that does not follow yet, a primary that recovers or is gone) the reconciler mends and sees, each second; it
leaves the cluster alone as long as the run goes on."""


class OpenEpoch(PostgresAction):
    """Opens a new epoch: this run leads the failover. Fenced by compare-and-set."""

    def capture(self, ctx: StepContext) -> Json:
        """The epoch that is left behind."""
        return {"epoch": self._cluster(ctx).epoch}

    def check(self, ctx: StepContext) -> Json | None:
        """An earlier attempt of this very step may have opened it and died before it could say so."""
        cluster = self._cluster(ctx)
        mine = cluster.epoch == ctx.captured["epoch"] + 1 and cluster.state is ClusterState.FAILING
        return self._output(cluster) if mine else None

    def do(self, ctx: StepContext) -> Json:
        """StaleEpoch when another has moved the cluster on since the capture, or leads it by now."""
        primary = self._cluster(ctx).primary
        if ctx.incident is not None and ctx.incident.instance != primary:
            raise StaleEpoch(f"{ctx.incident.instance} failed, but {primary} is the primary now")
        cluster = self._tools.clusters.advance(
            ctx.service.name,
            ctx.captured["epoch"],
            self._tools.clock.now(),
            new_epoch=True,
            state=ClusterState.FAILING,
            under=ctx.warrant,
        )
        return self._output(cluster)

    def undo(self, ctx: StepContext) -> None:
        """STEADY again if the recorded primary acknowledges a write and is followed; otherwise BLOCKED, until
        the reconciler finds that so.
        """
        cluster, mine = self._cluster(ctx), ctx.captured.get("epoch", -1) + 1
        if cluster.state is ClusterState.FAILING and cluster.epoch == mine:
            cluster = block(self._tools, cluster)
        if (
            cluster.state is ClusterState.BLOCKED
            and writes_are_taken(self._tools, ctx.service, cluster, within_s=LOOKED_FOR_S)
            and everybody_follows(self._tools, cluster)
        ):
            unblock(self._tools, cluster)

    @staticmethod
    def _output(cluster: Cluster) -> Json:
        return {"epoch": cluster.epoch, "primary": cluster.primary}


class CommitPrimary(PostgresAction):
    """Waits until the new set has what the new primary has, then records it. Fenced."""

    def check(self, ctx: StepContext) -> Json | None:
        """An earlier attempt may have recorded it."""
        cluster, chosen = self._cluster(ctx), ctx.outputs["choose_candidate"]["candidate"]
        done = cluster.primary == chosen and cluster.state is ClusterState.STEADY
        return {"primary": chosen, "epoch": cluster.epoch} if done else None

    def do(self, ctx: StepContext) -> Json:
        """Until then every old set stays in force: the next failover must not promote a straggler."""
        cluster, chosen = self._failing(ctx), ctx.outputs["choose_candidate"]
        new_set = sync_set_of(chosen["survivors"])
        wait_for_set(self._tools, ctx.service, chosen["candidate"], new_set, ctx.remaining_s())
        self._tools.clusters.advance(
            cluster.name,
            cluster.epoch,
            self._tools.clock.now(),
            new_epoch=False,
            primary=chosen["candidate"],
            state=ClusterState.STEADY,
            sets=(new_set,),
            unfinished=(),
            under=ctx.warrant,
        )
        return {"primary": chosen["candidate"], "epoch": cluster.epoch, "set": new_set.setting()}
