"""The balancer follows Sentinel: clients are led to the primary that it names, once that one says so, too.

Sentinel promotes; nothing else than the balancer is touched here. Every observer does this each second: what
it sets is what Sentinel says now, so doing it twice changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ha_tasks.errors import HaTasksError
from ha_tasks.failover.traffic_router import TrafficRouter
from ha_tasks.model.balancer import ServerState, latest
from ha_tasks.model.led_by_others import leader_to_follow
from ha_tasks.model.platform import Platform, Routing, Service
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.cluster_manager import ClusterWord
from ha_tasks.ports.redis import RedisControl
from ha_tasks.ports.repositories import WantedServers

ASKED_S = 1.0
OLD_S = 1.0
"""Whoever was paused between the question and the answer's use throws it away: another may lead by now."""

log = logging.getLogger(__name__)


class LedFollower:
    """Reads Sentinel and the server that it names, writes the balancer's wanted state."""

    def __init__(
        self,
        *,
        platform: Platform,
        word: ClusterWord,
        servers: RedisControl,
        wanted: WantedServers,
        router: TrafficRouter,
        clock: Clock,
        held: Callable[[], str | None] = lambda: None,
        stopped: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """``held``: why this store is not acted on. ``stopped``: a person keeps us from that service."""
        self._services = [s for s in platform.services.values() if s.sentinel is not None and s.routing]
        self._word = word
        self._servers = servers
        self._wanted = wanted
        self._router = router
        self._clock = clock
        self._held = held
        self._stopped = stopped

    def look(self) -> None:
        """Raises the first trouble, after all others were looked after."""
        troubles: list[HaTasksError] = []
        for service in self._services:
            try:
                self._follow(service)
            except HaTasksError as error:
                troubles.append(error)
        if troubles:
            raise troubles[0]

    def _follow(self, service: Service) -> None:
        if service.routing is None or self._held() is not None or self._stopped(service.name):
            return
        begun = self._clock.monotonic()
        leader = leader_to_follow(self._word.report(service, timeout_s=ASKED_S), service)
        if leader is None or self._leads_to(service, service.routing, leader):
            return
        if not self._servers.reading(service, service.instance(leader)).primary:
            return
        if self._clock.monotonic() - begun > 2 * ASKED_S + OLD_S:
            return
        log.warning("%s: Sentinel has %s lead; the balancer follows", service.name, leader)
        self._router.route_writes(service, leader)

    def _leads_to(self, service: Service, routing: Routing, leader: str) -> bool:
        rows = latest(self._wanted.all())
        states = {i.name: rows.get((routing.backend, i.name)) for i in service.instances}
        ready = {name for name, row in states.items() if row is None or row.state is ServerState.READY}
        return ready == {leader}
