"""Moves of a PostgreSQL cluster that more than one story makes."""

from __future__ import annotations

from dataclasses import dataclass

from ha_tasks.errors import (
    DeadlineExceeded,
    HaTasksError,
    PassingFailure,
    ServiceUnreachable,
    VerificationFailed,
)
from ha_tasks.failover.load_balancer import LoadBalancer
from ha_tasks.failover.traffic_router import TrafficRouter
from ha_tasks.model.cluster import Cluster, ClusterState, SyncSet, format_lsn
from ha_tasks.model.failover import Word, was_never_promoted
from ha_tasks.model.platform import Service
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.host import DatabaseAgent, NodeStatus, Postmaster
from ha_tasks.ports.pooler import PoolerControl
from ha_tasks.ports.postgres import PostgresControl
from ha_tasks.ports.power import Power
from ha_tasks.ports.repositories import Clusters, WantedServers
from ha_tasks.workflows.waiting import wait_until

TWO_PRIMARIES = (
    "it takes writes, and no failover of ours has promoted it; stop it on its host and keep its data "
    "(docs/runbooks/two-primaries.md), and it goes on by itself"
)
"""Why nothing is promoted beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresTools:
    """What stories about a PostgreSQL cluster drive."""

    clusters: Clusters
    agents: DatabaseAgent
    control: PostgresControl
    balancer: LoadBalancer
    router: TrafficRouter
    wanted: WantedServers
    clock: Clock
    pooler: PoolerControl | None = None
    """Of services that have poolers; None: nothing is known of any."""
    power: Power | None = None
    """Switches machines off; None: nobody's."""


def wait_for_set(
    tools: PostgresTools, service: Service, primary: str, members: SyncSet, within_s: float
) -> None:
    """Returns once W members have flushed past the primary's flush position of now."""
    node = service.instance(primary)
    lsn = tools.control.flush_lsn(service, node)

    def confirmed() -> bool:
        flushed = tools.control.flushed_past(service, node, lsn)
        return len(flushed & set(members.members)) >= members.quorum

    try:
        wait_until(
            confirmed,
            clock=tools.clock,
            within_s=max(0.5, within_s - 0.5),
            what=f"{members.setting()} flushed {format_lsn(lsn)} of {primary}",
        )
    except DeadlineExceeded as error:
        raise PassingFailure(str(error)) from error


def must_be_undoable(cluster: Cluster) -> None:
    """VerificationFailed while a candidate may be a primary: what it acknowledged would be left behind."""
    names = ", ".join(sorted({u.candidate for u in cluster.unfinished}))
    if names:
        raise VerificationFailed(
            f"{names} may have been promoted; nothing is undone, and it goes on once {names} answers"
        )


def without_the_innocent(tools: PostgresTools, cluster: Cluster) -> Cluster:
    """Strikes out candidates that show, in this epoch, that they were never promoted.

    In this epoch: a late command of the epoch that chose them is refused from then on.
    """
    left = tuple(u for u in cluster.unfinished if not _is_innocent(tools, cluster, u.candidate))
    if left == cluster.unfinished:
        return cluster
    now = tools.clock.now()
    return tools.clusters.advance(cluster.name, cluster.epoch, now, new_epoch=False, unfinished=left)


def _is_innocent(tools: PostgresTools, cluster: Cluster, node: str) -> bool:
    try:
        status = tools.agents.status(node, timeout_s=2.0)
    except HaTasksError:  # who does not say so is none
        return False
    return was_never_promoted(cluster, word_of(status))


def word_of(status: NodeStatus) -> Word:
    """What an agent's answer says about whether its node was promoted."""
    return Word(
        epoch=status.epoch,
        in_recovery=status.in_recovery,
        promotion_begun=status.promotion_begun,
        timeline=status.timeline,
        on_disk=status.timeline_on_disk,
    )


def everybody_follows(tools: PostgresTools, cluster: Cluster) -> bool:
    """True when each member of the recorded sets whose PostgreSQL runs follows the recorded primary.

    Who is silent or down follows nobody, and is brought back by a rejoin, which compares histories first.
    """
    members = {m for s in cluster.sets for m in s.members} - {cluster.primary}
    return all(_follows(tools, cluster.primary, node) for node in members)


def _follows(tools: PostgresTools, primary: str, node: str) -> bool:
    try:
        status = tools.agents.status(node)
    except HaTasksError:  # see above
        return True
    if status.postmaster is not Postmaster.RUNNING:
        return True
    return status.upstream == primary and status.promotion_begun is None and status.in_recovery is True


def block(tools: PostgresTools, cluster: Cluster) -> Cluster:
    """A new epoch in state BLOCKED: the failover is off, late commands of it are refused.

    VerificationFailed, as ``must_be_undoable`` says.
    """
    must_be_undoable(cluster)
    return tools.clusters.advance(
        cluster.name, cluster.epoch, tools.clock.now(), new_epoch=True, state=ClusterState.BLOCKED
    )


def unblock(tools: PostgresTools, cluster: Cluster) -> Cluster:
    """STEADY, in the same epoch."""
    return tools.clusters.advance(
        cluster.name, cluster.epoch, tools.clock.now(), new_epoch=False, state=ClusterState.STEADY
    )


def writes_are_taken(tools: PostgresTools, service: Service, cluster: Cluster, within_s: float) -> bool:
    """True once the recorded primary has acknowledged a write through the balancer."""
    if service.routing is None:
        return False
    entry, token = service.routing.entry, f"unblock-{cluster.name}-{cluster.epoch}"

    def taken() -> bool:
        try:
            node = tools.control.write_canary(service, entry, token, timeout_s=2.0)
        except ServiceUnreachable:
            return False
        return node == cluster.primary

    try:
        wait_until(taken, clock=tools.clock, within_s=within_s, what="a write is taken", every_s=0.2)
    except DeadlineExceeded:
        return False
    return True
