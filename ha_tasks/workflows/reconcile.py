"""Keeping things as they are recorded: the balancers, and who follows whom.

Every observer does this every second. What it sets is what SQL says, so doing it twice changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress

from ha_tasks.errors import AgentRefused, HaTasksError, PassingFailure, StaleEpoch, Unreachable
from ha_tasks.failover.load_balancer import LoadBalancer
from ha_tasks.model.balancer import Drift
from ha_tasks.model.cluster import Cluster, ClusterState
from ha_tasks.model.led_by_others import is_ours
from ha_tasks.model.platform import Platform, Service, ServiceKind
from ha_tasks.model.run import Run, RunState
from ha_tasks.names import Counter
from ha_tasks.ports.host import Authority, NodeStatus, Postmaster
from ha_tasks.ports.ledger import Ledger
from ha_tasks.ports.repositories import Incidents, Journal, Reign
from ha_tasks.workflows.cluster_moves import (
    PostgresTools,
    everybody_follows,
    unblock,
    wait_for_set,
    writes_are_taken,
)
from ha_tasks.workflows.held_clients import let_go
from ha_tasks.workflows.resuming import Resumer
from ha_tasks.workflows.sync_sets import is_edited, put_back

log = logging.getLogger(__name__)

HEARTBEAT_S = 1.0
"""Deadline of one heartbeat row."""
CONFIRMED_WITHIN_S = 2.0
"""So long a set that was put back is waited for; later the scheduled look finds that it holds."""


class Reconciler:
    """Repairs drift; leaves alone what a run is working on."""

    def __init__(
        self,
        *,
        platform: Platform,
        balancer: LoadBalancer,
        tools: PostgresTools,
        journal: Journal,
        ledger: Ledger,
        incidents: Incidents,
        actor: str,
        stopped: Callable[[str], bool] = lambda _: False,
        held: Callable[[], str | None] = lambda: None,
        look: Callable[[Service, str | None], object] = lambda *_: None,
    ) -> None:
        """``look``: ReplicationWatch's, told of a primary whose synchronous set was put back."""
        self._platform = platform
        self._balancer = balancer
        self._tools = tools
        self._journal = journal
        self._ledger = ledger
        self._actor = f"heartbeat of {actor}"
        self._resumer = Resumer(tools=tools, journal=journal, incidents=incidents, actor=actor)
        self._stopped = stopped
        self._held = held
        self._look = look

    def balancers(self) -> tuple[Drift, ...]:
        """Re-applies the wanted state, for example after a restart of HAProxy. Answers what had drifted.

        By a store that is held nothing is set: what it wants may be long over.
        """
        if self._held() is not None:
            return ()
        repaired = self._balancer.reconcile()
        for drift in repaired:
            self._ledger.count(Counter.BALANCER_DRIFT, {"backend": drift.backend})
        return repaired

    def clusters(self) -> None:
        """Every member of the set that runs follows the recorded primary; a blocked cluster is steady again
        once a write is taken and everybody follows. Nobody else is simply pointed there: a node that is in
        no set may hold another history, so it is rejoined.

        A failover that nobody leads any more is called off or goes on, see resuming.py.
        Raises the first trouble, after all others were looked after. A store that is held leads nobody.
        """
        if self._held() is not None:
            return
        troubles: list[HaTasksError] = []
        for service in filter(self._ours, self._platform.services.values()):
            try:
                self._cluster(service)
            except HaTasksError as error:
                troubles.append(error)
        if troubles:
            raise troubles[0]

    def heartbeats(self) -> None:
        """A row through each balancer: WAL keeps moving, so that a standby's silence means something.

        What fails here is seen by the probes; it is not told twice.
        """
        for service in self._platform.services.values():
            if not self._ours(service) or service.routing is None:
                continue
            with suppress(Unreachable):
                self._tools.control.write_canary(service, service.routing.entry, self._actor, HEARTBEAT_S)

    @staticmethod
    def _ours(service: Service) -> bool:
        """A database that somebody else leads is never written to, and nobody is pointed anywhere."""
        return service.kind is ServiceKind.POSTGRES and is_ours(service)

    def _cluster(self, service: Service) -> None:
        try:
            cluster = self._tools.clusters.get(service.name)
        except KeyError:
            return
        # After the cluster was read: whoever has opened the epoch that was seen is active, or has ended.
        if any(run.plan.scope == service.name and _acts(run) for run in self._journal.active()):
            return
        if not self._stopped(service.name):
            cluster = self._resumer.go_on(cluster, {i.name for i in service.instances} - service.asynchronous)
        if cluster.state not in (ClusterState.STEADY, ClusterState.BLOCKED):
            return
        if cluster.state is ClusterState.BLOCKED:
            self._lead_again(service, cluster)
        for node in sorted({m for s in cluster.sets for m in s.members} - {cluster.primary}):
            self._follow(cluster, node)
        if cluster.state is ClusterState.BLOCKED and self._is_whole(service, cluster):
            unblock(self._tools, cluster)
        self._set_as_recorded(service, cluster)
        self._let_go(service, cluster)

    def _let_go(self, service: Service, cluster: Cluster) -> None:
        """Clients of poolers, once their writes have somewhere to go."""
        if cluster.state is ClusterState.STEADY:
            let_go(self._tools, self._journal, service)

    def _set_as_recorded(self, service: Service, cluster: Cluster) -> None:
        """A primary that cannot be asked, or has heard of a later epoch, is looked at again in a second.

        StaleEpoch: a failover or a change of the set has begun meanwhile.
        """
        if self._stopped(service.name):
            return
        with suppress(Unreachable, PassingFailure, AgentRefused, StaleEpoch):
            if is_edited(self._tools, service, cluster):
                self._put_back(service, cluster)

    def _put_back(self, service: Service, cluster: Cluster) -> None:
        """Until the set has what was committed before, a failover would prove nothing, and is refused.

        Also when the primary dies in the middle of it. AgentRefused: somebody is changing the set.
        """
        try:
            put_back(self._tools, service, cluster, self._journal)
        except (Unreachable, PassingFailure):
            self._look(service, cluster.primary)
            raise
        self._ledger.count(Counter.SYNC_SET_EDITED, {"cluster": cluster.name})
        log.warning("%s: its synchronous set was edited by hand, and was put back", cluster.name)
        self._look(service, cluster.primary)
        wait_for_set(self._tools, service, cluster.primary, cluster.sets[0], CONFIRMED_WITHIN_S)
        self._look(service, None)

    def _is_whole(self, service: Service, cluster: Cluster) -> bool:
        taken = writes_are_taken(self._tools, service, cluster, within_s=0.0)
        return taken and everybody_follows(self._tools, cluster)

    def _lead_again(self, service: Service, cluster: Cluster) -> None:
        """The recorded primary is started and gets the traffic."""
        self._start_primary(cluster)
        with suppress(HaTasksError):
            reign = Reign(cluster=cluster.name, epoch=cluster.epoch)
            self._tools.router.route_writes(service, cluster.primary, under=reign)

    def _start_primary(self, cluster: Cluster) -> None:
        """A failover that was refused while the primary's host was away left nobody to start it again."""
        with suppress(HaTasksError):
            if self._tools.agents.status(cluster.primary).postmaster is Postmaster.RUNNING:
                return
            fence = self._journal.next_fence(self._tools.clock.now())
            by = Authority(epoch=cluster.epoch, fence=fence)
            self._tools.agents.start_primary(cluster.primary, cluster.sets[0].setting(), by)

    def _follow(self, cluster: Cluster, node: str) -> None:
        """A node that cannot be asked now is asked again in a second; the detector tells if it lasts."""
        try:
            status = self._tools.agents.status(node)
            if strays(status, cluster.primary):
                fence = self._journal.next_fence(self._tools.clock.now())
                by = Authority(epoch=cluster.epoch, fence=fence)
                self._tools.agents.follow(node, cluster.primary, by)
        except HaTasksError:
            return


def _acts(run: Run) -> bool:
    """A run that waits for a person has begun nothing, and may wait for an hour."""
    return run.state is not RunState.AWAITING_APPROVAL


def strays(status: NodeStatus, primary: str) -> bool:
    """True for a running standby that follows somebody else, or nobody, and was never promoted."""
    return (
        status.postmaster is Postmaster.RUNNING
        and status.in_recovery is True
        and status.promotion_begun is None
        and status.upstream != primary
    )
