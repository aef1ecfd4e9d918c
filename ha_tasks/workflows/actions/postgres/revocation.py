"""The fence proper: so many standbys stop receiving that nothing can be acknowledged any more."""

from __future__ import annotations

from dataclasses import asdict

from ha_tasks.errors import AgentUnreachable, HaTasksError, NotSafe, PassingFailure
from ha_tasks.model.cluster import Cluster, ClusterState, Revoked
from ha_tasks.model.failover import is_foreign_primary, may_promote
from ha_tasks.model.plain import Json
from ha_tasks.ports.action import StepContext
from ha_tasks.ports.host import Authority, NodeStatus
from ha_tasks.workflows.actions.postgres.base import (
    Answers,
    PostgresAction,
    enough,
    side_by_side,
    standbys_of,
)
from ha_tasks.workflows.actions.postgres.loss import accepted_loss
from ha_tasks.workflows.actions.postgres.spares import asynchronous, give_back
from ha_tasks.workflows.cluster_moves import TWO_PRIMARIES, block, without_the_innocent

ASKED_S = 2.5
"""So long an agent is asked. The old primary may live, and takes no write meanwhile."""
ASKED_AGAIN_S = 0.2
"""Pause before an agent that refused the connection is asked again: it may be starting."""


class RevokeStandbys(PostgresAction):
    """Has the standbys stop receiving; refuses unless R + W > N, or the loss is accepted. Fenced."""

    def do(self, ctx: StepContext) -> Json:
        """NotSafe, and with it the way back, when too few have confirmed.

        Whoever is silent is asked until ASKED_S are over, and not again; a node that answers that it needs
        longer gets another attempt, if it could make up what is missing.
        """
        cluster = self._failing(ctx)
        by = self._authority(ctx, cluster)
        ends = self._tools.clock.monotonic() + ASKED_S
        answers = enough(
            standbys_of(cluster),
            lambda node: self._revoke(node, by, ends),
            lambda some: may_promote(cluster, _confirmed(some)),
        )
        revoked = _confirmed(answers)
        _must_be_one_system(revoked)
        self._must_be_no_other_primary(cluster, answers)
        output: Json = {"revoked": [asdict(r) for r in revoked]}
        if may_promote(cluster, revoked):
            return output
        slow = [_as_if_confirmed(node) for node, a in answers.items() if _needs_longer(a)]
        if slow and may_promote(cluster, [*revoked, *slow]):
            raise PassingFailure(why_not_safe(cluster, answers))
        if ctx.accepts is None:
            raise NotSafe(why_not_safe(cluster, answers))
        further = self._asynchronous(ctx, cluster, by)
        self._must_be_no_other_primary(cluster, further)
        revoked += _confirmed(further)
        _must_be_one_system(revoked)
        loss = accepted_loss(self._tools, ctx, cluster, revoked, ctx.accepts)
        return {"revoked": [asdict(r) for r in revoked], "possible_loss": loss}

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
            # Whoever does not answer now is pointed to the primary by the reconciler, each second.
            lambda node: self._tools.agents.follow(node, cluster.primary, by, timeout_s=1.0),
        )
        give_back(self._tools, ctx, cluster, mine)

    def _must_be_no_other_primary(self, cluster: Cluster, answers: Answers) -> None:
        """The others may be enough to fence the recorded primary; this one nobody would fence.

        Also where a loss is accepted: that is about rows, and would leave two nodes that take writes.
        """
        candidates = {u.candidate for u in cluster.unfinished}
        unclear = [node for node, a in answers.items() if _may_be_a_primary(a, node in candidates)]
        for node, status in side_by_side(unclear, self._tools.agents.status).items():
            if isinstance(status, NodeStatus) and is_foreign_primary(
                cluster, node, in_recovery=status.in_recovery, promotion_begun=status.promotion_begun
            ):
                raise NotSafe(f"{node} would be a second primary: {TWO_PRIMARIES}")

    def _asynchronous(self, ctx: StepContext, cluster: Cluster, by: Authority) -> Answers:
        """Of whoever else could be promoted once a loss is accepted. The silent are not waited for long."""
        ends = self._tools.clock.monotonic() + ASKED_S
        nodes = asynchronous(ctx.service, cluster)
        return side_by_side(nodes, lambda node: self._revoke(node, by, ends))

    def _revoke(self, node: str, by: Authority, ends: float) -> Revoked:
        while True:
            left = ends - self._tools.clock.monotonic()
            try:
                return self._tools.agents.revoke(node, by, timeout_s=max(0.1, left))
            except AgentUnreachable:
                if ends - self._tools.clock.monotonic() <= ASKED_AGAIN_S:
                    raise
            self._tools.clock.pause(ASKED_AGAIN_S)


def why_not_safe(cluster: Cluster, answers: Answers) -> str:
    """Who confirmed, who did not and why, and which sets they were asked for."""
    silent = [f"{n}: {a}" for n, a in answers.items() if isinstance(a, HaTasksError)]
    confirmed = sorted(r.node for r in _confirmed(answers))
    recorded = (*cluster.sets, *(u.sync_set for u in cluster.unfinished))
    sets = " and ".join(s.setting() or "(empty)" for s in recorded)
    return (
        f"R + W <= N: only {', '.join(confirmed) or 'nobody'} confirmed the revocation of {sets}; "
        f"{'; '.join(silent) or 'the recorded set cannot fence'}"
    )


def _confirmed(answers: Answers) -> list[Revoked]:
    return [a for a in answers.values() if isinstance(a, Revoked)]


def _needs_longer(answer: object) -> bool:
    passing = isinstance(answer, HaTasksError) and answer.retryable
    return passing and not isinstance(answer, AgentUnreachable)


def _may_be_a_primary(answer: object, is_candidate: bool) -> bool:
    """It refused to be revoked, or bears the mark of a promotion that nobody recorded."""
    if isinstance(answer, Revoked):
        return answer.begun is not None and not is_candidate
    return isinstance(answer, HaTasksError) and not isinstance(answer, AgentUnreachable)


def _as_if_confirmed(node: str) -> Revoked:
    """Of a candidate it is not known that it was never promoted, so it counts as one that was."""
    return Revoked(node=node, timeline=1 << 32, lsn=0)


def _must_be_one_system(revoked: list[Revoked]) -> None:
    """A standby of another system was never a copy of this primary, whatever its position says."""
    systems = {r.system: r.node for r in revoked if r.system}
    if len(systems) > 1:
        told = ", ".join(f"{r.node} {r.system}" for r in revoked)
        raise NotSafe(
            f"the standbys are of different systems (system identifiers: {told}); "
            "rebuild the one that is none of this cluster's, then recover again"
        )
