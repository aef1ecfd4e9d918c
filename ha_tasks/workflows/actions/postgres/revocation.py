"""The fence proper: so many standbys stop receiving that nothing can be acknowledged any more."""

from __future__ import annotations

from collections.abc import Collection

from ha_tasks.errors import (
    HaTasksError,
    NotSafe,
    PassingFailure,
)
from ha_tasks.model.cluster import (
    Cluster,
    ClusterState,
    Revoked,
    promotion_is_safe,
)
from ha_tasks.model.plain import Json
from ha_tasks.ports.action import StepContext
from ha_tasks.workflows.actions.postgres.base import PostgresAction, side_by_side, standbys_of
from ha_tasks.workflows.cluster_moves import (
    block,
    without_the_innocent,
)


class RevokeStandbys(PostgresAction):
    """Has the standbys stop receiving; refuses unless R + W > N. Fenced."""

    def do(self, ctx: StepContext) -> Json:
        """NotSafe, and with it the way back, when too few have confirmed; the slow are asked again first."""
        cluster = self._failing(ctx)
        members = standbys_of(cluster)
        by = self._authority(ctx, cluster)
        answers = side_by_side(members, lambda node: self._tools.agents.revoke(node, by, timeout_s=3.0))
        revoked = [a for a in answers.values() if isinstance(a, Revoked)]
        if not is_safe(cluster, [r.node for r in revoked]):
            passing = any(isinstance(a, HaTasksError) and a.retryable for a in answers.values())
            raise (PassingFailure if passing else NotSafe)(why_not_safe(cluster, answers))
        return {"revoked": [{"node": r.node, "timeline": r.timeline, "lsn": r.lsn} for r in revoked]}

    def undo(self, ctx: StepContext) -> None:
        """A new epoch, so that late commands of this one are refused; then everybody follows again."""
        cluster, mine = self._cluster(ctx), ctx.outputs["open_epoch"]["epoch"]
        if cluster.state is ClusterState.FAILING and cluster.epoch == mine:
            cluster = block(self._tools, without_the_innocent(self._tools, cluster))
        if cluster.state is not ClusterState.BLOCKED or cluster.epoch != mine + 1:
            return  # Somebody has moved the cluster on: nothing of this run is left to be undone.
        by = self._authority(ctx, cluster)
        side_by_side(
            standbys_of(cluster),
            lambda node: self._tools.agents.follow(node, cluster.primary, by, timeout_s=3.0),
        )


def is_safe(cluster: Cluster, revoked: Collection[str]) -> bool:
    """Who may be a primary by now, unknown to SQL, must not be able to acknowledge anything either."""
    unfinished = [(u.sync_set,) for u in cluster.unfinished]
    return all(promotion_is_safe(sets, revoked) for sets in (cluster.sets, *unfinished))


def why_not_safe(cluster: Cluster, answers: dict[str, object | HaTasksError]) -> str:
    """Who confirmed, who did not and why, and which sets they were asked for."""
    silent = [f"{n}: {a}" for n, a in answers.items() if isinstance(a, HaTasksError)]
    confirmed = sorted(n for n, a in answers.items() if isinstance(a, Revoked))
    recorded = (*cluster.sets, *(u.sync_set for u in cluster.unfinished))
    sets = " and ".join(s.setting() or "(empty)" for s in recorded)
    return (
        f"R + W <= N: only {', '.join(confirmed) or 'nobody'} confirmed the revocation of {sets}; "
        f"{'; '.join(silent) or 'the recorded set cannot fence'}"
    )
