"""The old primary goes: out of the balancer, and off its host if its agent can."""

from __future__ import annotations

from contextlib import suppress

from ha_tasks.errors import HaTasksError
from ha_tasks.model.balancer import ServerState
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Service
from ha_tasks.ports.action import StepContext
from ha_tasks.workflows.actions.postgres.base import PostgresAction, pushed
from ha_tasks.workflows.cluster_moves import must_be_undoable

FENCED_WITHIN_S = 0.5
"""So long the agent of the old primary is asked: writes wait meanwhile. One that lives kills at once."""


class IsolatePrimary(PostgresAction):
    """Takes the old primary out of the balancer and ends its sessions. Converges."""

    def capture(self, ctx: StepContext) -> Json:
        """What the balancer should look like without this run."""
        backends = _backends(ctx.service)
        return {
            "wanted": [
                [w.backend, w.server, str(w.state)] for w in self._tools.wanted.all() if w.backend in backends
            ]
        }

    def do(self, ctx: StepContext) -> Json:
        """A balancer that cannot be reached is set later, by the reconciler: commits cannot be lost by it."""
        primary = self._failing(ctx).primary
        later = pushed(lambda: self._tools.router.isolate(ctx.service, primary, under=ctx.warrant))
        return {"isolated": primary, **later}

    def undo(self, ctx: StepContext) -> None:
        """Back to what was wanted before; the reconciler sets it on a balancer that is away."""
        before = {(b, s): ServerState(state) for b, s, state in ctx.captured.get("wanted", [])}
        if before:
            pushed(lambda: self._tools.balancer.want(before, f"run {ctx.run} was undone", under=ctx.warrant))


class FencePrimary(PostgresAction):
    """Ends every process of the old primary on its host, if its agent can. Fenced."""

    def do(self, ctx: StepContext) -> Json:
        """An agent that is silent, or cannot kill, is not waited for: the fence proper is the revocation."""
        cluster = self._failing(ctx)
        try:
            self._tools.agents.fence(
                cluster.primary, self._authority(ctx, cluster), timeout_s=FENCED_WITHIN_S
            )
        except HaTasksError as error:
            return {"fenced": False, "why": str(error)}
        return {"fenced": True, "node": cluster.primary}

    def undo(self, ctx: StepContext) -> None:
        """Starts it again as the primary that SQL says it is."""
        cluster = self._cluster(ctx)
        must_be_undoable(cluster)
        by = self._authority(ctx, cluster)
        # Whatever is in the way (its host is away, its disk is full): the cluster stays blocked, the
        # reconciler tries again each second, and the rest of the way back must not wait for it. So a host
        # that is dark is asked something small first.
        with suppress(HaTasksError):
            self._tools.agents.status(cluster.primary)
            setting, within_s = cluster.sets[0].setting(), max(1.0, ctx.remaining_s() - 1.0)
            self._tools.agents.start_primary(cluster.primary, setting, by, timeout_s=within_s)


def _backends(service: Service) -> set[str]:
    routing = service.routing
    return set() if routing is None else {b for b in (routing.backend, routing.read_backend) if b}
