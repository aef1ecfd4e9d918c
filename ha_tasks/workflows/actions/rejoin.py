"""Bringing a PostgreSQL node back behind the recorded primary."""

from __future__ import annotations

import logging

from ha_tasks.errors import (
    AgentUnreachable,
    DeadlineExceeded,
    HaTasksError,
    PassingFailure,
    StaleFence,
)
from ha_tasks.model.plain import Json
from ha_tasks.model.progress import progress_in
from ha_tasks.model.sync_change import SILENT_FOR
from ha_tasks.ports.action import StepContext
from ha_tasks.ports.host import Authority
from ha_tasks.workflows.actions.sync_set import NarrowSyncSet, StandbyAction
from ha_tasks.workflows.waiting import wait_until

log = logging.getLogger(__name__)

POLLED_S = 2.0
"""So long it is waited for a job at a time; between two looks there is time for the synchronous set."""


class CheckpointPrimary(StandbyAction):
    """Checkpoints the primary: before it, pg_rewind takes the old timeline for the current one."""

    def do(self, ctx: StepContext) -> Json:
        """Idempotent."""
        primary = self._led(ctx).primary
        self._tools.control.checkpoint(ctx.service, ctx.service.instance(primary))
        return {"primary": primary}


class RejoinNode(StandbyAction):
    """Brings the node back as a standby: plain start, pg_rewind, or a new base backup. Fenced."""

    def do(self, ctx: StepContext) -> Json:
        """The work is a job on the node's host under this step's key: asking again does not do it twice.

        While it takes long, as a new base backup does, the node is taken out of the synchronous set.
        """
        upstream, long_s = self._led(ctx).primary, ctx.remaining_s() - SILENT_FOR.total_seconds()
        answer = self._asked(ctx, upstream)
        while answer is None:
            if ctx.remaining_s() < long_s:
                self._narrow(ctx)
            self._tell(ctx)
            answer = self._asked(ctx, upstream)
        return answer

    def _asked(self, ctx: StepContext, upstream: str) -> Json | None:
        """None: the job goes on. An agent that does not even take it on is AgentUnreachable at once."""
        cluster, clock = self._led(ctx), self._tools.clock
        if cluster.primary != upstream:
            raise PassingFailure(f"{cluster.primary} is the primary now, no more {upstream}")
        by = Authority(epoch=cluster.epoch, fence=ctx.fence)
        begun, within_s = clock.monotonic(), min(POLLED_S, ctx.remaining_s())
        try:
            return self._tools.agents.rejoin(self._node(ctx), upstream, by, ctx.key, timeout_s=within_s)
        except AgentUnreachable:
            waited = clock.monotonic() - begun >= within_s / 2
            if not waited or ctx.lost() or ctx.remaining_s() <= POLLED_S:
                raise
        return None

    def _tell(self, ctx: StepContext) -> None:
        """How far the job is, by its agent."""
        try:
            job = self._tools.agents.status(self._node(ctx)).job
        except HaTasksError as error:
            log.info("%s does not say how far it is: %s", self._node(ctx), error)
            return
        progress = progress_in(job.get("progress", {}))
        if job.get("id") == ctx.key and progress is not None:
            ctx.tell(progress)

    def _narrow(self, ctx: StepContext) -> None:
        """What cannot be done now is tried again: the node comes back all the same."""
        try:
            NarrowSyncSet(self._tools).do(ctx)
        except StaleFence:
            raise
        except HaTasksError as error:
            log.info("%s stays in the synchronous set for now: %s", self._node(ctx), error)


class AwaitStreaming(StandbyAction):
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


class RouteReads(StandbyAction):
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
