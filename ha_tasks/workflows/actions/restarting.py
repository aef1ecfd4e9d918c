"""A planned restart of one standby: out of the reads, restarted by its agent, caught up, back again."""

from __future__ import annotations

from ha_tasks.errors import BalancerUnreachable, Refused
from ha_tasks.model.action import Takes
from ha_tasks.model.balancer import ServerState
from ha_tasks.model.cluster import Cluster, ClusterState
from ha_tasks.model.plain import Json
from ha_tasks.ports.action import StepContext
from ha_tasks.workflows.actions.postgres import PostgresAction

DRAIN_S = 5.0
"""How long readers are let end by themselves."""


class _RestartAction(PostgresAction):
    takes = Takes(needed=("instance",))

    def _steady(self, ctx: StepContext) -> tuple[Cluster, str]:
        """The cluster and the standby; Refused unless it is well and the node is none but a standby."""
        cluster, node = self._cluster(ctx), str(ctx.args["instance"])
        if cluster.state is not ClusterState.STEADY or cluster.unfinished:
            raise Refused(f"{cluster.name} is {cluster.state}; wait until it is steady: ha-tasks status")
        if node == cluster.primary:
            raise Refused(
                f"{node} is the primary; it is restarted by a switchover: ha-tasks switchover {cluster.name}"
            )
        return cluster, node


class CloseReads(_RestartAction):
    """Takes the standby out of the reads; readers may end by themselves for a while. Converges."""

    def capture(self, ctx: StepContext) -> Json:
        """Whether it serves reads now."""
        backend = ctx.service.routing.read_backend if ctx.service.routing else None
        wanted = {(w.backend, w.server): w.state for w in self._tools.wanted.all()}
        state = wanted.get((backend or "", str(ctx.args["instance"])), ServerState.READY)
        return {"backend": backend, "state": str(state)}

    def do(self, ctx: StepContext) -> Json:
        """A standby is not closed while it is the last one that the others' redundancy hangs on."""
        cluster, node = self._steady(ctx)
        self._others_must_stream(ctx, cluster, node)
        backend = ctx.captured.get("backend")
        if backend is None:
            return {"closed": False}
        try:
            drained = self._tools.balancer.drain(backend, node, DRAIN_S, under=ctx.warrant)
        except BalancerUnreachable as error:
            return {"closed": False, "later": str(error)}
        return {"closed": True, "drained": drained}

    def undo(self, ctx: StepContext) -> None:
        """As it was before."""
        backend, node = ctx.captured.get("backend"), str(ctx.args["instance"])
        if backend is not None:
            wanted = {(backend, node): ServerState(ctx.captured["state"])}
            self._tools.balancer.want(wanted, f"run {ctx.run} was undone", under=ctx.warrant)

    def _others_must_stream(self, ctx: StepContext, cluster: Cluster, node: str) -> None:
        members = cluster.sets[-1].members if cluster.sets else ()
        others = set(members) - {node}
        if not others:
            return  # The only one: commits wait for it meanwhile, which its plan says.
        primary = ctx.service.instance(cluster.primary)
        lost = others - self._tools.control.streaming(ctx.service, primary)
        if lost:
            raise Refused(
                f"{', '.join(sorted(lost))} does not stream from {cluster.primary}; bring it back first"
            )


class RestartStandby(_RestartAction):
    """Restarts the standby by its agent, with the programs and settings that are on its disk. Fenced."""

    def do(self, ctx: StepContext) -> Json:
        """Once per step, however often it is asked for."""
        cluster, node = self._steady(ctx)
        by = self._authority(ctx, cluster)
        self._tools.agents.restart_standby(node, ctx.key, by, timeout_s=max(1.0, ctx.remaining_s() - 1.0))
        return {"restarted": node}
