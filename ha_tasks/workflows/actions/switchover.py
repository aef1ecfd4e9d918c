"""A planned switchover: the steps that a failover does not have, around those that it has.

The epoch, the revocation (R + W > N), the mark before the promotion and the commit are the failover's own
actions; here is what makes it planned: it is judged first, the traffic is held, the primary ends with a
clean shutdown, its successor must have the last record of it, and it follows without a rewind.
"""

from __future__ import annotations

from dataclasses import replace

from ha_tasks.errors import ActionFailed, DeadlineExceeded, HaTasksError, NotSafe, PassingFailure, Refused
from ha_tasks.model.action import Takes
from ha_tasks.model.cluster import Revoked, Unfinished, format_lsn, sync_set_of
from ha_tasks.model.plain import Json
from ha_tasks.model.switchover import LONGEST_TRANSACTION_S, MOST_LAG_BYTES, has_it_all, objections
from ha_tasks.ports.action import StepContext
from ha_tasks.workflows.actions.postgres import ChooseCandidate, FencePrimary, PostgresAction
from ha_tasks.workflows.actions.rejoin import AwaitStreaming, RouteReads
from ha_tasks.workflows.actions.sync_set import WidenSyncSet
from ha_tasks.workflows.switchover_facts import switchover_facts

STOP_WITHIN_S = 10.0
"""How long a clean shutdown may take behind a checkpoint; then it is given up and all is put back."""
PAUSE_WITHIN_S = 5.0
MARGIN_S = 1.0
"""Of a step's time that is left for its answer."""


def candidate_of(ctx: StepContext) -> str:
    """The standby that the step is about."""
    return str(ctx.args["instance"])


class CheckSwitchover(PostgresAction):
    """Refuses before anything is touched: whoever cannot take over, and whatever would be cut. Reads only."""

    takes = Takes(needed=("instance",), may=("most_lag_bytes", "longest_transaction_s"))

    def do(self, ctx: StepContext) -> Json:
        """Refused, with every objection and what mends it."""
        facts = switchover_facts(
            self._tools,
            ctx.service,
            self._cluster(ctx),
            candidate_of(ctx),
            most_lag_bytes=int(ctx.args.get("most_lag_bytes", MOST_LAG_BYTES)),
            longest_transaction_s=float(ctx.args.get("longest_transaction_s", LONGEST_TRANSACTION_S)),
        )
        found = objections(facts)
        if found:
            raise Refused("; ".join(found))
        return {"primary": facts.cluster.primary, "candidate": facts.candidate}


class CheckpointNodes(PostgresAction):
    """Checkpoints the primary and its successor while writes go on: the shutdown is short then."""

    takes = Takes(needed=("instance",))

    def do(self, ctx: StepContext) -> Json:
        """Idempotent. The primary's first: a standby can only follow a checkpoint that it has received."""
        nodes = [self._cluster(ctx).primary, candidate_of(ctx)]
        for node in nodes:
            self._tools.control.checkpoint(ctx.service, ctx.service.instance(node))
        return {"checkpointed": nodes}


class PausePooler(PostgresAction):
    """Has the poolers hold their clients between two transactions. Converges; without one it does nothing."""

    takes = Takes(may=("within_s",))

    def do(self, ctx: StepContext) -> Json:
        """PassingFailure, with whoever is in the way, when a transaction does not end in time."""
        pooler, service = self._tools.pooler, ctx.service
        if pooler is None or service.pooler is None:
            return {"paused": False}
        within_s = float(ctx.args.get("within_s", PAUSE_WITHIN_S))
        try:
            pooler.pause(service, min(within_s, ctx.remaining_s() - MARGIN_S))
        except PassingFailure as error:
            raise ActionFailed(f"{error}{self._in_the_way(ctx, within_s)}") from error
        return {"paused": True}

    def undo(self, ctx: StepContext) -> None:
        """They go on."""
        if self._tools.pooler is not None and ctx.service.pooler is not None:
            self._tools.pooler.resume(ctx.service)

    def _in_the_way(self, ctx: StepContext, within_s: float) -> str:
        primary = ctx.service.instance(self._cluster(ctx).primary)
        try:
            long = self._tools.control.transactions(ctx.service, primary, min(1.0, within_s / 2))
        except HaTasksError:  # the pause has failed already, and that is told
            return ""
        return "".join(f"; still under way: {t}" for t in long[:3])


class ResumePooler(PostgresAction):
    """Lets the clients of the poolers go on. Converges; without one it does nothing."""

    takes = Takes()

    def do(self, ctx: StepContext) -> Json:
        """Idempotent."""
        if self._tools.pooler is None or ctx.service.pooler is None:
            return {"resumed": False}
        self._tools.pooler.resume(ctx.service)
        return {"resumed": True}


class StopPrimary(FencePrimary):
    """Shuts the primary down cleanly, which hands its standbys the last of its WAL. Fenced.

    Its way back is the fence's: it is started again as the primary that SQL says it is.
    """

    takes = Takes(may=("instance", "within_s"))

    def do(self, ctx: StepContext) -> Json:
        """ActionFailed when it takes too long: that is not waited for, and everything is put back."""
        cluster = self._failing(ctx)
        within_s = min(float(ctx.args.get("within_s", STOP_WITHIN_S)), ctx.remaining_s() - MARGIN_S)
        try:
            end = self._tools.agents.stop(
                cluster.primary, self._authority(ctx, cluster), timeout_s=max(0.5, within_s)
            )
        except PassingFailure as error:
            text = f"{cluster.primary} did not shut down within {within_s:.0f} s; it goes on as primary"
            raise ActionFailed(text) from error
        return {"node": end.node, "timeline": end.timeline, "lsn": end.lsn}


class ChooseSuccessor(ChooseCandidate):
    """Records the ordered standby as the candidate, if it has the primary's last record. Fenced."""

    takes = Takes(needed=("instance",))

    def do(self, ctx: StepContext) -> Json:
        """NotSafe, and with it the way back, when it lacks that record."""
        cluster, name = self._failing(ctx), candidate_of(ctx)
        end = Revoked(**{k: ctx.outputs["stop_primary"][k] for k in ("node", "timeline", "lsn")})
        revoked = {r["node"]: Revoked(**r) for r in ctx.outputs["revoke_standbys"]["revoked"]}
        received = revoked.get(name)
        if received is None or not has_it_all(end, received):
            at = "nothing is known of it" if received is None else format_lsn(received.lsn)
            raise NotSafe(f"{name} lacks the last record of {end.node} at {format_lsn(end.lsn)} ({at})")
        followers = sorted(node for node in revoked if node != name)
        # With one standby alone it is the old primary that acknowledges: it has everything, and comes next.
        survivors = sync_set_of(followers or [end.node])
        entry = Unfinished(
            epoch=cluster.epoch, candidate=name, sync_set=survivors, timeline=received.timeline
        )
        self._tools.clusters.advance(
            cluster.name,
            cluster.epoch,
            self._tools.clock.now(),
            new_epoch=False,
            unfinished=(*cluster.unfinished, entry),
            under=ctx.warrant,
        )
        return {**self._output(entry), "at": f"{received.timeline}:{format_lsn(received.lsn)}"}


class DemotePrimary(PostgresAction):
    """Starts the old primary as a standby of its successor, without a rewind. Fenced.

    Where that cannot be done the switchover goes on: the node is a standby that is down then, and the
    rejoin brings it back.
    """

    takes = Takes()

    def do(self, ctx: StepContext) -> Json:
        """Its history must be the successor's, or its agent refuses."""
        old, chosen = ctx.outputs["open_epoch"]["primary"], ctx.outputs["choose_candidate"]["candidate"]
        by = self._authority(ctx, self._failing(ctx))
        try:
            self._tools.agents.demote(old, chosen, by, timeout_s=max(1.0, ctx.remaining_s() - MARGIN_S))
        except HaTasksError as error:
            return {"standby": False, "node": old, "why": str(error)}
        return {"standby": True, "node": old}


class RestoreRedundancy(PostgresAction):
    """Waits until the old primary has caught up, and takes it into the synchronous set and the reads.

    What does not come back in time is a failure of its own, for which there is the rejoin.
    """

    takes = Takes()

    def do(self, ctx: StepContext) -> Json:
        """By the rejoin's own actions."""
        demoted = ctx.outputs["demote_primary"]
        if not demoted["standby"]:
            return {"restored": False, "why": demoted["why"]}
        about = replace(ctx, args={"instance": demoted["node"]})
        try:
            for action in (AwaitStreaming, WidenSyncSet, RouteReads):
                action(self._tools).do(about)
        except (DeadlineExceeded, PassingFailure) as error:
            return {"restored": False, "why": str(error)}
        return {"restored": True, "node": demoted["node"]}
