"""The new primary: chosen, recorded, followed, promoted, and given the traffic."""

from __future__ import annotations

from ha_tasks.errors import (
    HaTasksError,
    NotSafe,
    PassingFailure,
    VerificationFailed,
)
from ha_tasks.model.cluster import (
    Cluster,
    Revoked,
    Unfinished,
    format_lsn,
    sync_set_of,
)
from ha_tasks.model.failover import History, choose_candidate, survivors
from ha_tasks.model.plain import Json
from ha_tasks.model.precedence import ranks
from ha_tasks.ports.action import StepContext
from ha_tasks.workflows.actions.foresight import may_stand_alone
from ha_tasks.workflows.actions.postgres.base import PostgresAction, pushed, side_by_side
from ha_tasks.workflows.actions.postgres.spares import revoked_spares


class ChooseCandidate(PostgresAction):
    """Chooses the most advanced standby and records it before it can be promoted. Fenced."""

    def check(self, ctx: StepContext) -> Json | None:
        """The choice that an earlier attempt recorded stands."""
        cluster = self._failing(ctx)
        mine = [u for u in cluster.unfinished if u.epoch == cluster.epoch]
        return self._output(mine[0]) if mine else None

    def do(self, ctx: StepContext) -> Json:
        """NotSafe when no standby would be left to acknowledge the new primary's commits."""
        cluster = self._failing(ctx)
        revoked = [Revoked(**r) for r in ctx.outputs["revoke_standbys"]["revoked"]]
        order = ranks(ctx.service, cluster.primary)
        chosen = choose_candidate(revoked, cluster.unfinished, ranks=order)
        if chosen is None:
            raise NotSafe("no standby could be revoked")
        # Who is asynchronous follows later, by a rejoin: another region must not hold up a failover.
        left_at = self._left_at(cluster, chosen)
        followers = set(survivors(chosen, revoked, cluster.unfinished, left_at)) - ctx.service.asynchronous
        its_set = sync_set_of(followers or revoked_spares(self._tools, ctx, cluster, chosen))
        if not its_set.members and not may_stand_alone(ctx):
            raise NotSafe(_alone(ctx, cluster, chosen.node))
        entry = Unfinished(
            epoch=cluster.epoch, candidate=chosen.node, sync_set=its_set, timeline=chosen.timeline
        )
        self._tools.clusters.advance(
            cluster.name,
            cluster.epoch,
            self._tools.clock.now(),
            new_epoch=False,
            unfinished=(*cluster.unfinished, entry),
            under=ctx.warrant,
        )
        return {**self._output(entry), "at": f"{chosen.timeline}:{format_lsn(chosen.lsn)}"}

    def undo(self, ctx: StepContext) -> None:
        """Strikes the candidate out, but only if its agent says that no promotion was begun."""
        cluster = self._cluster(ctx)
        mine = [u for u in cluster.unfinished if u.epoch == ctx.outputs["open_epoch"]["epoch"]]
        if not mine:
            return
        for entry in mine:
            # A late order to promote it may still come to it, so it must not even have been begun.
            status = self._tools.agents.status(entry.candidate, timeout_s=2.0)
            if status.promotion_begun == entry.epoch or status.in_recovery is not True:
                raise VerificationFailed(f"{entry.candidate} may have been promoted; nothing is undone")
        left = tuple(u for u in cluster.unfinished if u not in mine)
        self._tools.clusters.advance(
            cluster.name,
            cluster.epoch,
            self._tools.clock.now(),
            new_epoch=False,
            unfinished=left,
            under=ctx.warrant,
        )

    def _left_at(self, cluster: Cluster, chosen: Revoked) -> History:
        """Asked only where there are branches: without one nobody has more than the furthest."""
        if not cluster.unfinished:
            return ()
        return self._tools.agents.status(chosen.node, timeout_s=2.0).history or ()

    @staticmethod
    def _output(entry: Unfinished) -> Json:
        return {"candidate": entry.candidate, "survivors": list(entry.sync_set.members)}


def _alone(ctx: StepContext, cluster: Cluster, node: str) -> str:
    names = sorted(
        {i.name for i in ctx.service.instances} - {node, cluster.primary} - ctx.service.asynchronous
    )
    return (
        f"{node} has everything, but would have no standby that acknowledges its commits; policy durability "
        f"does not allow that. Bring {' or '.join(names) or 'another standby'} back, and it goes on by "
        f"itself; to let {node} stand alone: ha-tasks recover {cluster.name} --accept-data-loss=BYTES"
    )


class RepointSurvivors(PostgresAction):
    """Points the other standbys to the candidate, before it is promoted. Fenced."""

    def do(self, ctx: StepContext) -> Json:
        """They must stream by the time of the promotion, or the first commit waits for them."""
        by = self._authority(ctx, self._failing(ctx))
        chosen = ctx.outputs["choose_candidate"]
        # A switchover between two nodes has the old primary acknowledge, which is stopped until later.
        others = [node for node in chosen["survivors"] if node != ctx.outputs["open_epoch"]["primary"]]
        answers = side_by_side(
            others,
            lambda node: self._tools.agents.follow(node, chosen["candidate"], by, timeout_s=3.0),
        )
        failed = [str(a) for a in answers.values() if isinstance(a, HaTasksError)]
        if failed:
            raise PassingFailure("; ".join(failed))
        return {"following": chosen["candidate"], "nodes": others}

    def undo(self, ctx: StepContext) -> None:
        """Nothing of its own: undoing the revocation has everybody follow the primary again."""


class PromoteCandidate(PostgresAction):
    """Promotes the candidate. Fenced; from here on the way is forward."""

    def check(self, ctx: StepContext) -> Json | None:
        """An earlier attempt may have promoted it."""
        cluster, chosen = self._failing(ctx), ctx.outputs["choose_candidate"]["candidate"]
        status = self._tools.agents.status(chosen, timeout_s=2.0)
        if status.promotion_begun != cluster.epoch or status.in_recovery is not False:
            return None
        return {"node": chosen, "timeline": status.timeline}

    def do(self, ctx: StepContext) -> Json:
        """The agent marks its disk, sets the synchronous set and promotes."""
        by = self._authority(ctx, self._failing(ctx))
        chosen = ctx.outputs["choose_candidate"]
        setting = sync_set_of(chosen["survivors"]).setting()
        timeline = self._tools.agents.promote(chosen["candidate"], setting, by, timeout_s=ctx.remaining_s())
        return {"node": chosen["candidate"], "timeline": timeline}


class RouteWrites(PostgresAction):
    """Moves the write traffic to the new primary, reads to who follows it. Converges."""

    def do(self, ctx: StepContext) -> Json:
        """Safe before the set is confirmed: commits wait for that set anyway.

        A balancer that is away takes it from the reconciler later; the health gate waits for that.
        """
        chosen = ctx.outputs["choose_candidate"]
        writes, reads = chosen["candidate"], chosen["survivors"]
        later = pushed(lambda: self._tools.router.route_writes(ctx.service, writes, under=ctx.warrant))
        later |= pushed(lambda: self._tools.router.route_reads(ctx.service, reads, under=ctx.warrant))
        return {"writes": writes, "reads": reads, **later, **self._reconnected(ctx)}

    def _reconnected(self, ctx: StepContext) -> Json:
        """Poolers keep connections to whoever was the primary; they notice by themselves, but later."""
        if self._tools.pooler is None or ctx.service.pooler is None:
            return {}
        try:
            self._tools.pooler.reconnect(ctx.service)
        except HaTasksError as error:
            return {"pooler": str(error)}
        return {"pooler": "reconnected"}
