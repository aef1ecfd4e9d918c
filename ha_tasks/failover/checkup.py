"""Checkup: every check of the system's health, area by area. The judging is model/system_health.py."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from ha_tasks.errors import AgentUnreachable, HaTasksError
from ha_tasks.model.database_health import replication_examined
from ha_tasks.model.health import ServiceState
from ha_tasks.model.platform import Host, Limits, Platform, Service, ServiceKind
from ha_tasks.model.system_health import (
    CAUTION,
    IMPAIRED,
    Area,
    AreaHealth,
    Examined,
    area_health,
    host_examined,
    judged,
    minded,
    worst,
)
from ha_tasks.ports.checks import DeepCheck, ExternalCheck, HostResources, OwnChecks
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.ledger import Ledger
from ha_tasks.ports.repositories import ReplicationBook

DEEP_TIMEOUT_S = 2.0
BELIEVED_FOR = timedelta(seconds=15)
"""A judgement older than this is no longer believed: whoever judges is away."""
MOST_AT_ONCE = 128
T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruments:
    """What a checkup looks with. ``here``: the machine on which it runs."""

    ledger: Ledger
    replication: ReplicationBook
    agents: HostResources
    here: HostResources
    databases: Mapping[ServiceKind, DeepCheck]
    outside: ExternalCheck
    own: OwnChecks
    clock: Clock


class Checkup:
    """Looks only: it writes nothing but canaries, under names of ha_tasks. StoreUnreachable is passed on."""

    def __init__(self, platform: Platform, instruments: Instruments) -> None:
        self._platform = platform
        self._with = instruments

    def check_own(self) -> AreaHealth:
        """What installed packages check."""
        return area_health(Area.BASE, self._with.own.examine_all())

    def check_all_services_health(self) -> AreaHealth:
        """Each service as the detector has judged it last; one that nobody judges is unknown."""
        now, services = self._with.clock.now(), self._platform.services.values()
        return area_health(Area.SERVICES, [self._service(service, now) for service in services])

    def check_infrastructure_health(self) -> AreaHealth:
        """Each host through its agent, and the machine on which this runs."""
        found = _spread(self._host, self._platform.hosts.values())
        here = host_examined(f"{socket.gethostname()} (here)", self._with.here.resources(""), Limits())
        return area_health(Area.INFRASTRUCTURE, [*here, *(each for host in found for each in host)])

    def check_database_health(self) -> AreaHealth:
        """Each PostgreSQL and Redis service from inside."""
        services = [s for s in self._platform.services.values() if s.kind in self._with.databases]
        now, pictures = self._with.clock.now(), self._with.replication.latest()
        found = [each for deep in _spread(self._deep, services) for each in deep]
        found += [
            minded(replication_examined(service.name, pictures.get(service.name), now), service.weight)
            for service in services
            if service.kind is ServiceKind.POSTGRES
        ]
        return area_health(Area.DATABASES, found)

    def check_external_dependencies(self) -> AreaHealth:
        """What the platform needs and does not own."""
        return area_health(
            Area.EXTERNAL, _spread(self._with.outside.examine, self._platform.external.values())
        )

    def calculate_health_score(self, areas: Iterable[AreaHealth]) -> float | None:
        """The worst area's: one that is down hides behind none that is well. None: nothing is known."""
        return worst(area.score for area in areas)

    def _deep(self, service: Service) -> list[Examined]:
        found = self._with.databases[service.kind].examine(service, DEEP_TIMEOUT_S)
        return [minded(each, service.weight) for each in found]

    def _host(self, host: Host) -> list[Examined]:
        try:
            return host_examined(host.name, self._with.agents.resources(host.name), host.limits)
        except AgentUnreachable as error:
            remedy = f"start it on {host.name}: until then nothing there is fenced, promoted or restarted"
            return [_agent(host, IMPAIRED, str(error), remedy)]
        except HaTasksError as error:
            remedy = "update the agent: an earlier version cannot tell what its machine uses"
            return [_agent(host, CAUTION, f"it does not tell: {error}", remedy)]

    def _service(self, service: Service, now: datetime) -> Examined:
        state, since = standing(service.name, self._with.ledger, now)
        last = self._with.ledger.scores().get(service.name)
        if state == ServiceState.UNKNOWN or since is None or last is None:
            return Examined(
                subject=service.name,
                check="probes",
                score=None,
                problem="nobody has judged it lately, so it counts as not available",
                remedy="ha-tasks status shows who works; start the workers, one of them with --observe",
            )
        found = judged(
            service.name,
            "probes",
            last[0],
            problem=f"it is {state} since {since:%Y-%m-%d %H:%M:%S} UTC, score {last[0]:.2f}",
            remedy=f"what is being done: ha-tasks status; to begin it now: ha-tasks recover {service.name}",
            facts={"state": state},
        )
        return minded(found, service.weight)


def standing(service: str, ledger: Ledger, now: datetime) -> tuple[str, datetime | None]:
    """(state, since when) of a service; unknown when nobody has judged it lately."""
    last = ledger.scores().get(service)
    current = [i for i in ledger.intervals(now) if i.service == service and i.until is None]
    if not current:
        return str(ServiceState.UNKNOWN), None
    latest = max(current, key=lambda interval: interval.since)
    if last is not None and now - last[1] > BELIEVED_FOR and latest.state != ServiceState.UNKNOWN:
        return str(ServiceState.UNKNOWN), last[1]
    return latest.state, latest.since


def _agent(host: Host, score: float, problem: str, remedy: str) -> Examined:
    return Examined(subject=host.name, check="agent", score=score, problem=problem, remedy=remedy)


def _spread(look: Callable[[T], U], items: Iterable[T]) -> list[U]:
    """Each item looked at, side by side, in the order of the items."""
    with ThreadPoolExecutor(max_workers=MOST_AT_ONCE, thread_name_prefix="checkup") as pool:
        return list(pool.map(look, items))
