"""What the steps of a failover share: the cluster that the service is, and asking its agents side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from typing import TypeAlias

from ha_tasks.errors import (
    ActionFailed,
    BalancerError,
    BalancerUnreachable,
    HaTasksError,
    StaleEpoch,
)
from ha_tasks.model.action import Takes
from ha_tasks.model.cluster import (
    Cluster,
    ClusterState,
)
from ha_tasks.model.plain import Json
from ha_tasks.ports.action import Difference, StepContext
from ha_tasks.ports.host import Authority
from ha_tasks.workflows.actions.base import PlainAction
from ha_tasks.workflows.actions.foresight import foreseen
from ha_tasks.workflows.cluster_moves import (
    PostgresTools,
)

Answers: TypeAlias = Mapping[str, "object | HaTasksError"]
"""What each node answered, or the error that it came to."""
LATE_S = 0.3
"""So long those who have not answered are waited for, once enough have."""


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


def side_by_side(nodes: Iterable[str], call: Callable[[str], object]) -> Answers:
    """The answer of each node, or the error that it came to."""
    return enough(nodes, call, lambda _: False)


def enough(
    nodes: Iterable[str], call: Callable[[str], object], suffices: Callable[[Answers], bool]
) -> Answers:
    """As ``side_by_side``; who has not answered LATE_S after the others sufficed is left out.

    ``call`` ends by itself: what it still does then happens later, or not at all.
    """

    def answer(node: str) -> object | HaTasksError:
        try:
            return call(node)
        except HaTasksError as error:
            return error

    names = list(nodes)
    if not names:
        return {}
    pool = ThreadPoolExecutor(max_workers=len(names))
    asked: dict[Future[object | HaTasksError], str] = {pool.submit(answer, name): name for name in names}
    try:
        done: set[Future[object | HaTasksError]] = set()
        for future in as_completed(asked):
            done.add(future)
            if suffices(_answers(asked, done)):
                done |= wait(asked, timeout=LATE_S).done
                break
        return _answers(asked, done)
    finally:
        pool.shutdown(wait=False)


def _answers(
    asked: Mapping[Future[object | HaTasksError], str], done: Iterable[Future[object | HaTasksError]]
) -> Answers:
    """In the order in which they were asked."""
    given = {asked[future]: future.result() for future in done}
    return {name: given[name] for name in asked.values() if name in given}


def standbys_of(cluster: Cluster) -> list[str]:
    """Every standby that could acknowledge something: of the recorded sets and of unfinished ones."""
    sets = [*cluster.sets, *(u.sync_set for u in cluster.unfinished)]
    names = {m for s in sets for m in s.members} | {u.candidate for u in cluster.unfinished}
    return sorted(names - {cluster.primary})


def pushed(push: Callable[[], object]) -> Json:
    """What is to be told of a push that was not taken: it stands in SQL and is set later."""
    try:
        push()
    except (BalancerUnreachable, BalancerError) as error:
        return {"later": str(error)}
    return {}
