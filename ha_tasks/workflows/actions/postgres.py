"""Recovering a dead PostgreSQL primary: the steps of the failover protocol.

Evidence decides, revocation fences: nothing is promoted unless so many standbys are confirmed to
have stopped receiving that the old primary can no longer acknowledge a commit (R + W > N), and every
refusal undoes what was begun. Each command carries (epoch, fence); agents refuse lower pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from ha_tasks.errors import (
    ActionFailed,
    BalancerError,
    BalancerUnreachable,
    HaTasksError,
    NotSafe,
    PassingFailure,
    StaleEpoch,
    VerificationFailed,
)
from ha_tasks.model.action import Takes
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
from ha_tasks.ports.action import Difference, StepContext
from ha_tasks.ports.host import Authority
from ha_tasks.workflows.actions.base import PlainAction
from ha_tasks.workflows.actions.foresight import foreseen
from ha_tasks.workflows.cluster_moves import (
    PostgresTools,
    block,
    must_be_undoable,
    unblock,
    wait_for_set,
    without_the_innocent,
    writes_are_taken,
)


class PostgresAction(PlainAction):
    """Knows the cluster that its service is."""

    takes = Takes(may=("instance",))

    def __init__(self, tools: PostgresTools) -> None:
        self._tools = tools

    def plan(self, ctx: StepContext) -> Difference:
        """Thing by thing, see foresight.py."""
        return foreseen(self._tools, ctx)

    def _cluster(self, ctx: StepContext) -> Cluster:
        """ActionFailed when it is not in care."""
        try:
            return self._tools.clusters.get(ctx.service.name)
        except KeyError as error:
            name = ctx.service.name
            raise ActionFailed(f"{name} is not in care yet; look first: ha-tasks adopt {name}") from error

    @staticmethod
    def _authority(ctx: StepContext, cluster: Cluster) -> Authority:
        """In the name of the epoch that was looked at: who slept since must not speak for a later one."""
        return Authority(epoch=cluster.epoch, fence=ctx.fence)

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
        )
        return self._output(cluster)

    def undo(self, ctx: StepContext) -> None:
        """STEADY again once the recorded primary acknowledges a write; until then it stays BLOCKED."""
        cluster, mine = self._cluster(ctx), ctx.captured.get("epoch", -1) + 1
        if cluster.state is ClusterState.FAILING and cluster.epoch == mine:
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
        later = _pushed(lambda: self._tools.router.isolate(ctx.service, primary, under=ctx.warrant))
        return {"isolated": primary, **later}

    def undo(self, ctx: StepContext) -> None:
        """Back to what was wanted before; the reconciler sets it on a balancer that is away."""
        before = {(b, s): ServerState(state) for b, s, state in ctx.captured.get("wanted", [])}
        if before:
            _pushed(lambda: self._tools.balancer.want(before, f"run {ctx.run} was undone", under=ctx.warrant))


class FencePrimary(PostgresAction):
    """Ends every process of the old primary on its host, if its agent can. Fenced."""

    def do(self, ctx: StepContext) -> Json:
        """An agent that is silent, or cannot kill, is not waited for: the fence proper is the revocation."""
        cluster = self._failing(ctx)
        try:
            self._tools.agents.fence(cluster.primary, self._authority(ctx, cluster), timeout_s=1.5)
        except HaTasksError as error:
            return {"fenced": False, "why": str(error)}
        return {"fenced": True, "node": cluster.primary}

    def undo(self, ctx: StepContext) -> None:
        """Starts it again as the primary that SQL says it is."""
        cluster = self._cluster(ctx)
        must_be_undoable(cluster)
        by = self._authority(ctx, cluster)
        # Whatever is in the way (its host is away, its disk is full): the cluster stays blocked, the
        # reconciler tries again each second, and the rest of the way back must not wait for it.
        with suppress(HaTasksError):
            self._tools.agents.start_primary(cluster.primary, cluster.sets[0].setting(), by)


class RevokeStandbys(PostgresAction):
    """Has the standbys stop receiving; refuses unless R + W > N. Fenced."""

    def do(self, ctx: StepContext) -> Json:
        """NotSafe, and with it the way back, when too few have confirmed; the slow are asked again first."""
        cluster = self._failing(ctx)
        members = _members(cluster)
        by = self._authority(ctx, cluster)
        answers = _side_by_side(members, lambda node: self._tools.agents.revoke(node, by, timeout_s=3.0))
        revoked = [a for a in answers.values() if isinstance(a, Revoked)]
        if not _is_safe(cluster, [r.node for r in revoked]):
            passing = any(isinstance(a, HaTasksError) and a.retryable for a in answers.values())
            raise (PassingFailure if passing else NotSafe)(_why_not_safe(cluster, answers))
        return {"revoked": [{"node": r.node, "timeline": r.timeline, "lsn": r.lsn} for r in revoked]}

    def undo(self, ctx: StepContext) -> None:
        """A new epoch, so that late commands of this one are refused; then everybody follows again."""
        cluster, mine = self._cluster(ctx), ctx.outputs["open_epoch"]["epoch"]
        if cluster.state is ClusterState.FAILING and cluster.epoch == mine:
            cluster = block(self._tools, without_the_innocent(self._tools, cluster))
        if cluster.state is not ClusterState.BLOCKED or cluster.epoch != mine + 1:
            return  # Somebody has moved the cluster on: nothing of this run is left to be undone.
        by = self._authority(ctx, cluster)
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
        # Of equals the one that was to be promoted before: it bears the mark, so it cannot follow another.
        chosen = choose_candidate(revoked, priority=[u.candidate for u in reversed(cluster.unfinished)])
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
        if not mine:
            return
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
        by = self._authority(ctx, self._failing(ctx))
        chosen = ctx.outputs["choose_candidate"]
        answers = _side_by_side(
            chosen["survivors"],
            lambda node: self._tools.agents.follow(node, chosen["candidate"], by, timeout_s=3.0),
        )
        failed = [str(a) for a in answers.values() if isinstance(a, HaTasksError)]
        if failed:
            raise PassingFailure("; ".join(failed))
        return {"following": chosen["candidate"], "nodes": chosen["survivors"]}

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
        later = _pushed(lambda: self._tools.router.route_writes(ctx.service, writes, under=ctx.warrant))
        later |= _pushed(lambda: self._tools.router.route_reads(ctx.service, reads, under=ctx.warrant))
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
    """What is to be told of a push that was not taken: it stands in SQL and is set later."""
    try:
        push()
    except (BalancerUnreachable, BalancerError) as error:
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


def _is_safe(cluster: Cluster, revoked: Collection[str]) -> bool:
    """Who may be a primary by now, unknown to SQL, must not be able to acknowledge anything either."""
    unfinished = [(u.sync_set,) for u in cluster.unfinished]
    return all(promotion_is_safe(sets, revoked) for sets in (cluster.sets, *unfinished))


def _backends(service: Service) -> set[str]:
    routing = service.routing
    return set() if routing is None else {b for b in (routing.backend, routing.read_backend) if b}


def _why_not_safe(cluster: Cluster, answers: dict[str, object | HaTasksError]) -> str:
    silent = [f"{n}: {a}" for n, a in answers.items() if isinstance(a, HaTasksError)]
    confirmed = sorted(n for n, a in answers.items() if isinstance(a, Revoked))
    recorded = (*cluster.sets, *(u.sync_set for u in cluster.unfinished))
    sets = " and ".join(s.setting() or "(empty)" for s in recorded)
    return (
        f"R + W <= N: only {', '.join(confirmed) or 'nobody'} confirmed the revocation of {sets}; "
        f"{'; '.join(silent) or 'the recorded set cannot fence'}"
    )
