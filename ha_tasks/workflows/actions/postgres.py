"""Recovering a dead PostgreSQL primary: the steps of the failover protocol.

Evidence decides, revocation fences: nothing is promoted unless so many standbys are confirmed to
have stopped receiving that the old primary can no longer acknowledge a commit (R + W > N), and every
refusal undoes what was begun. Each command carries (epoch, fence); agents refuse lower pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from ha_tasks.errors import (
    AgentUnreachable,
    BalancerUnreachable,
    HaTasksError,
    NotSafe,
    PassingFailure,
    StaleEpoch,
    VerificationFailed,
)
from ha_tasks.model.balancer import ServerState
from ha_tasks.model.cluster import (
    Cluster,
    ClusterState,
    Revoked,
    Unfinished,
    choose_candidate,
    format_lsn,
    promotion_is_safe,
    sync_set_of,
)
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Service
from ha_tasks.ports.action import StepContext
from ha_tasks.ports.host import Authority
from ha_tasks.workflows.actions.base import PlainAction
from ha_tasks.workflows.cluster_moves import (
    PostgresTools,
    block,
    unblock,
    wait_for_set,
    writes_are_taken,
)


class PostgresAction(PlainAction):
    """Knows the cluster that its service is."""

    def __init__(self, tools: PostgresTools) -> None:
        self._tools = tools

    def _cluster(self, ctx: StepContext) -> Cluster:
        return self._tools.clusters.get(ctx.service.name)

    def _authority(self, ctx: StepContext) -> Authority:
        """In the name of the epoch that stands now, with this claim's fence."""
        return Authority(epoch=self._cluster(ctx).epoch, fence=ctx.fence)

    def _failing(self, ctx: StepContext) -> Cluster:
        """The cluster in the epoch that this run opened; StaleEpoch when somebody has moved it on."""
        cluster, mine = self._cluster(ctx), ctx.outputs["open_epoch"]["epoch"]
        if cluster.epoch != mine or cluster.state is not ClusterState.FAILING:
            raise StaleEpoch(f"{cluster.name} is at epoch {cluster.epoch} ({cluster.state}), not {mine}")
        return cluster


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
        """StaleEpoch when another has moved the cluster on since the capture."""
        cluster = self._tools.clusters.advance(
            ctx.service.name,
            ctx.captured["epoch"],
            self._tools.clock.now(),
            new_epoch=True,
            state=ClusterState.FAILING,
        )
        return self._output(cluster)

    def undo(self, ctx: StepContext) -> None:
        """STEADY again once the recorded primary acknowledges a write; until then it stays BLOCKED."""
        cluster = self._cluster(ctx)
        if cluster.state is ClusterState.FAILING:
            cluster = block(self._tools, cluster)
        if cluster.state is ClusterState.BLOCKED and writes_are_taken(
            self._tools, ctx.service, cluster, within_s=min(10.0, ctx.remaining_s())
        ):
            unblock(self._tools, cluster)

    @staticmethod
    def _output(cluster: Cluster) -> Json:
        return {"epoch": cluster.epoch, "primary": cluster.primary}


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
        later = _pushed(lambda: self._tools.router.isolate(ctx.service, primary))
        return {"isolated": primary, **later}

    def undo(self, ctx: StepContext) -> None:
        """Back to what was wanted before."""
        before = {(b, s): ServerState(state) for b, s, state in ctx.captured.get("wanted", [])}
        if before:
            self._tools.balancer.want(before, f"run {ctx.run} was undone")


class FencePrimary(PostgresAction):
    """Ends every process of the old primary on its host, if its agent can be reached. Fenced."""

    def do(self, ctx: StepContext) -> Json:
        """A silent agent is not waited for: the fence proper is the revocation that follows."""
        primary = self._failing(ctx).primary
        try:
            self._tools.agents.fence(primary, self._authority(ctx), timeout_s=1.5)
        except AgentUnreachable as error:
            return {"fenced": False, "why": str(error)}
        return {"fenced": True, "node": primary}

    def undo(self, ctx: StepContext) -> None:
        """Starts it again as the primary that SQL says it is; a silent agent leaves it as it is."""
        cluster = self._cluster(ctx)
        try:
            self._tools.agents.start_primary(cluster.primary, cluster.sets[0].setting(), self._authority(ctx))
        except AgentUnreachable:
            # Its host is away: there is nothing to start. The cluster stays blocked, and says so.
            return


class RevokeStandbys(PostgresAction):
    """Has the standbys stop receiving; refuses unless R + W > N. Fenced."""

    def do(self, ctx: StepContext) -> Json:
        """NotSafe, and with it the way back, when too few have confirmed."""
        cluster = self._failing(ctx)
        members = _members(cluster)
        by = self._authority(ctx)
        answers = _side_by_side(members, lambda node: self._tools.agents.revoke(node, by, timeout_s=3.0))
        revoked = [a for a in answers.values() if isinstance(a, Revoked)]
        if not promotion_is_safe(cluster.sets, [r.node for r in revoked]):
            raise NotSafe(_why_not_safe(cluster, answers))
        return {"revoked": [{"node": r.node, "timeline": r.timeline, "lsn": r.lsn} for r in revoked]}

    def undo(self, ctx: StepContext) -> None:
        """A new epoch, so that late commands of this one are refused; then everybody follows again."""
        cluster = self._cluster(ctx)
        if cluster.state is ClusterState.FAILING:
            cluster = block(self._tools, cluster)
        by = Authority(epoch=cluster.epoch, fence=ctx.fence)
        _side_by_side(
            _members(cluster),
            lambda node: self._tools.agents.follow(node, cluster.primary, by, timeout_s=3.0),
        )


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
        chosen = choose_candidate(revoked)
        if chosen is None:
            raise NotSafe("no standby could be revoked")
        survivors = sync_set_of(r.node for r in revoked if r.node != chosen.node)
        if not survivors.members:
            raise NotSafe(f"{chosen.node} would have no standby; policy durability does not allow that")
        entry = Unfinished(epoch=cluster.epoch, candidate=chosen.node, sync_set=survivors)
        self._tools.clusters.advance(
            cluster.name,
            cluster.epoch,
            self._tools.clock.now(),
            new_epoch=False,
            unfinished=(*cluster.unfinished, entry),
        )
        return {**self._output(entry), "at": f"{chosen.timeline}:{format_lsn(chosen.lsn)}"}

    def undo(self, ctx: StepContext) -> None:
        """Strikes the candidate out, but only if its agent says that no promotion was begun."""
        cluster = self._cluster(ctx)
        mine = [u for u in cluster.unfinished if u.epoch == ctx.outputs["open_epoch"]["epoch"]]
        for entry in mine:
            status = self._tools.agents.status(entry.candidate, timeout_s=2.0)
            if status.promotion_begun == entry.epoch or status.in_recovery is not True:
                raise VerificationFailed(f"{entry.candidate} may have been promoted; nothing is undone")
        left = tuple(u for u in cluster.unfinished if u not in mine)
        self._tools.clusters.advance(
            cluster.name, cluster.epoch, self._tools.clock.now(), new_epoch=False, unfinished=left
        )

    @staticmethod
    def _output(entry: Unfinished) -> Json:
        return {"candidate": entry.candidate, "survivors": list(entry.sync_set.members)}


class RepointSurvivors(PostgresAction):
    """Points the other standbys to the candidate, before it is promoted. Fenced."""

    def do(self, ctx: StepContext) -> Json:
        """They must stream by the time of the promotion, or the first commit waits for them."""
        self._failing(ctx)
        chosen, by = ctx.outputs["choose_candidate"], self._authority(ctx)
        answers = _side_by_side(
            chosen["survivors"],
            lambda node: self._tools.agents.follow(node, chosen["candidate"], by, timeout_s=3.0),
        )
        failed = [str(a) for a in answers.values() if isinstance(a, HaTasksError)]
        if failed:
            raise PassingFailure("; ".join(failed))
        return {"following": chosen["candidate"], "nodes": chosen["survivors"]}


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
        self._failing(ctx)
        chosen = ctx.outputs["choose_candidate"]
        setting = sync_set_of(chosen["survivors"]).setting()
        timeline = self._tools.agents.promote(
            chosen["candidate"], setting, self._authority(ctx), timeout_s=ctx.remaining_s()
        )
        return {"node": chosen["candidate"], "timeline": timeline}


class RouteWrites(PostgresAction):
    """Moves the write traffic to the new primary, reads to who follows it. Converges."""

    def do(self, ctx: StepContext) -> Json:
        """Safe before the set is confirmed: commits wait for that set anyway.

        A balancer that is away takes it from the reconciler later; the health gate waits for that.
        """
        chosen = ctx.outputs["choose_candidate"]
        writes, reads = chosen["candidate"], chosen["survivors"]
        later = _pushed(lambda: self._tools.router.route_writes(ctx.service, writes))
        later |= _pushed(lambda: self._tools.router.route_reads(ctx.service, reads))
        return {"writes": writes, "reads": reads, **later}


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
        )
        return {"primary": chosen["candidate"], "epoch": cluster.epoch, "set": new_set.setting()}


def _pushed(push: Callable[[], object]) -> Json:
    """What is to be told of a push that no balancer took: it stands in SQL and is set later."""
    try:
        push()
    except BalancerUnreachable as error:
        return {"later": str(error)}
    return {}


def _side_by_side(nodes: Iterable[str], call: Callable[[str], object]) -> dict[str, object | HaTasksError]:
    """The answer of each node, or the error that it came to."""

    def answer(node: str) -> object | HaTasksError:
        try:
            return call(node)
        except HaTasksError as error:
            return error

    names = list(nodes)
    if not names:
        return {}
    with ThreadPoolExecutor(max_workers=len(names)) as pool:
        return dict(zip(names, pool.map(answer, names), strict=True))


def _members(cluster: Cluster) -> list[str]:
    """Every standby that could acknowledge something: of the recorded sets and of unfinished ones."""
    sets = [*cluster.sets, *(u.sync_set for u in cluster.unfinished)]
    names = {m for s in sets for m in s.members} | {u.candidate for u in cluster.unfinished}
    return sorted(names - {cluster.primary})


def _backends(service: Service) -> set[str]:
    routing = service.routing
    return set() if routing is None else {b for b in (routing.backend, routing.read_backend) if b}


def _why_not_safe(cluster: Cluster, answers: dict[str, object | HaTasksError]) -> str:
    silent = [f"{n}: {a}" for n, a in answers.items() if isinstance(a, HaTasksError)]
    confirmed = sorted(n for n, a in answers.items() if isinstance(a, Revoked))
    sets = " and ".join(s.setting() or "(empty)" for s in cluster.sets)
    return (
        f"R + W <= N: only {', '.join(confirmed) or 'nobody'} confirmed the revocation of {sets}; "
        f"{'; '.join(silent) or 'the recorded set cannot fence'}"
    )
