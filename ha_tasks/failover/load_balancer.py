"""LoadBalancer: what SQL wants of the balancers' servers, pushed at once and kept that way."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ha_tasks.errors import BalancerError, BalancerUnreachable, Refused, UsageError
from ha_tasks.failover.members import settle
from ha_tasks.failover.service_discovery import others_to_serve
from ha_tasks.model.balancer import (
    Drift,
    Member,
    ServerState,
    ServerStatus,
    WantedServer,
    drift,
    latest,
    with_members,
)
from ha_tasks.model.led_by_others import is_ours
from ha_tasks.model.platform import Instance, Platform, Routing, Service, ServiceKind
from ha_tasks.ports.balancer import BalancerControl
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.repositories import Reign, WantedServers, Warrant

T = TypeVar("T")
ServerKey = tuple[str, str]
"""(backend, server)"""

POLL_S = 0.05
MOST_PUSHES = 5
_log = logging.getLogger(__name__)


class LoadBalancer:
    """Every HAProxy of the platform, as one.

    A balancer cannot refuse a stale command. So whoever pushes looks into SQL once more afterwards and
    pushes again what has changed meanwhile: the last push is never an old one. ``cut``: backends whose
    servers lose their sessions whenever they are taken out (where a PostgreSQL primary takes writes).
    ``theirs``: backends whose servers others lead; what was wanted there before is not set any more.
    """

    def __init__(
        self,
        balancers: Mapping[str, BalancerControl],
        wanted: WantedServers,
        clock: Clock,
        *,
        cut: Collection[str] = (),
        theirs: Collection[str] = (),
        members: Callable[[], tuple[Member, ...]] = tuple,
    ) -> None:
        """``members``: servers that registered themselves, as they are now."""
        self._balancers = dict(balancers)
        self._wanted = wanted
        self._clock = clock
        self._cut = frozenset(cut)
        self._theirs = frozenset(theirs)
        self._members = members
        self._silent: frozenset[str] = frozenset()

    def want(
        self,
        changes: Mapping[ServerKey, ServerState],
        reason: str,
        *,
        shut_sessions: bool = False,
        under: Warrant | Reign | None = None,
    ) -> tuple[str, ...]:
        """Records what is wanted, then sets it on every balancer, what is taken out first.

        ``shut_sessions`` ends the sessions of every server that goes to maintenance. Answers the balancers
        that did not take it: ``reconcile`` sets them later. Raises BalancerUnreachable when none took it
        and BalancerError when one refused; the record stands in both cases. Idempotent; converges.
        Fenced when it is done ``under`` a run's warrant or a cluster's epoch: StaleFence or StaleEpoch, and
        nothing is changed.
        """
        rows = latest(self._wanted.want(changes, reason, self._clock.now(), under))
        missed: tuple[str, ...] = ()
        for _ in range(MOST_PUSHES):
            pushed = [rows[key] for key in changes]
            missed = self._push(pushed, shut_sessions)
            rows = latest(self._wanted.all())
            if all(rows[key].state is row.state for key, row in zip(changes, pushed, strict=True)):
                break
        return missed

    def reconcile(self) -> tuple[Drift, ...]:
        """Sets what is not as wanted, on every balancer that answers; answers what was repaired.

        Servers that registered themselves are added, moved to their address, and taken away when they left.

        Raises BalancerUnreachable when there are balancers and none answers, BalancerError when one
        refused, after the others were set. Idempotent; survives reloads and restarts of HAProxy.
        """
        repaired: list[Drift] = []
        rows = self._ours()
        for _ in range(MOST_PUSHES):
            found = self._repaired(rows)
            repaired += found
            before, rows = rows, self._ours() if found else rows
            if rows == before:
                break
        return tuple(repaired)

    def _ours(self) -> tuple[WantedServer, ...]:
        return tuple(row for row in self._wanted.all() if row.backend not in self._theirs)

    def remove_unhealthy_instance(
        self, service: Service, instance: Instance, *, hung: bool = False, under: Warrant | None = None
    ) -> tuple[str, ...]:
        """Takes an instance out of every backend of its service. Converges.

        Requests under way are left to end, unless it is ``hung`` (shutting turns slow timeouts into quick
        errors) or takes PostgreSQL writes. Raises Refused when nobody else is left to serve HTTP: the
        balancer's own check keeps a dead server out, and lets it in again by itself.
        """
        routing = _routing(service)
        database = service.kind is ServiceKind.POSTGRES
        if not database and not others_to_serve(service, instance, self._wanted.all()):
            raise Refused(f"{instance.name} is the last instance of {service.name}")
        changes = {(backend, instance.name): ServerState.MAINT for backend in _backends(routing)}
        reason = f"{instance.name} is unhealthy"
        return self.want(changes, reason, shut_sessions=hung or database, under=under)

    def add_healthy_instance(
        self, service: Service, instance: Instance, *, under: Warrant | None = None
    ) -> tuple[str, ...]:
        """Puts an instance into rotation. Converges. A PostgreSQL node only for reads: who takes the
        writes is the TrafficRouter's to say.
        """
        routing = _routing(service)
        database = service.kind is ServiceKind.POSTGRES
        backend = routing.read_backend if database else routing.backend
        if backend is None:
            return ()
        changes = {(backend, instance.name): ServerState.READY}
        return self.want(changes, f"{instance.name} is healthy", under=under)

    def is_up(self, backend: str, server: str) -> bool:
        """True when it is ready and its check is good on every balancer that answers.

        Just after a server was made ready HAProxy takes it for up until its first check has ended.
        Raises BalancerUnreachable when none answers.
        """
        states = self._statuses(backend, server).values()
        return all(s is not None and s.up and s.admin is ServerState.READY for s in states)

    def sessions(self, backend: str, server: str) -> int:
        """Sessions on that server, over the balancers that answer. Raises BalancerUnreachable."""
        return sum(s.sessions for s in self._statuses(backend, server).values() if s is not None)

    def drain(self, backend: str, server: str, deadline_s: float, *, under: Warrant | None = None) -> bool:
        """No new sessions; once the last has ended, or after the deadline, into maintenance. Converges.

        Sessions that are left then go on. False when there were some, or when somebody else wanted
        another state meanwhile: theirs stands. ``deadline_s``: seconds from now.
        """
        key = (backend, server)
        until = self._clock.monotonic() + deadline_s
        self.want({key: ServerState.DRAIN}, f"{server} is drained", under=under)
        while (left := self.sessions(backend, server)) and self._clock.monotonic() < until:
            self._clock.pause(POLL_S)
        if latest(self._wanted.all())[key].state is not ServerState.DRAIN:
            return False
        self.want({key: ServerState.MAINT}, f"{server} is drained", under=under)
        return left == 0

    def _push(self, rows: Iterable[WantedServer], shut_sessions: bool) -> tuple[str, ...]:
        ordered = sorted(rows, key=lambda row: row.state is ServerState.READY)

        def push(_: str, control: BalancerControl) -> None:
            for row in ordered:
                self._set(control, row.backend, row.server, row.state, shut_sessions)

        return tuple(sorted(self._balancers.keys() - self._each(push).keys()))

    def _repaired(self, rows: tuple[WantedServer, ...]) -> list[Drift]:
        members = self._members()
        done = self._each(lambda name, control: self._repair(name, control, rows, members))
        return [entry for drifts in done.values() for entry in drifts]

    def _repair(
        self,
        name: str,
        control: BalancerControl,
        rows: tuple[WantedServer, ...],
        members: tuple[Member, ...],
    ) -> list[Drift]:
        actual, refusals = control.servers(), list[BalancerError]()
        if settle(control, actual, members, refusals):
            actual = control.servers()
        found = drift(with_members(rows, members, actual), actual, name)
        for entry in found:
            try:
                self._set(control, entry.backend, entry.server, entry.wanted, shut_sessions=False)
            except BalancerError as error:
                refusals.append(error)
        if refusals:
            raise refusals[0]
        return list(found)

    def _set(
        self, control: BalancerControl, backend: str, server: str, state: ServerState, shut_sessions: bool
    ) -> None:
        control.set_state(backend, server, state)
        if state is ServerState.MAINT and (shut_sessions or backend in self._cut):
            control.shut_sessions(backend, server)

    def _statuses(self, backend: str, server: str) -> dict[str, ServerStatus | None]:
        def look(_: str, control: BalancerControl) -> ServerStatus | None:
            return next((s for s in control.servers() if (s.backend, s.server) == (backend, server)), None)

        return self._each(look)

    def _each(self, work: Callable[[str, BalancerControl], T]) -> dict[str, T]:
        """Answers by balancer, side by side; those that cannot be reached are left out, unless all are."""
        if not self._balancers:
            return {}
        with ThreadPoolExecutor(max_workers=len(self._balancers), thread_name_prefix="balancer") as pool:
            futures = {name: pool.submit(work, name, control) for name, control in self._balancers.items()}
        errors = {name: future.exception() for name, future in futures.items()}
        silent = {name: str(e) for name, e in errors.items() if isinstance(e, BalancerUnreachable)}
        self._tell(silent)
        answers = {name: future.result() for name, future in futures.items() if name not in silent}
        if not answers:
            raise BalancerUnreachable("; ".join(f"{name}: {error}" for name, error in silent.items()))
        return answers

    def _tell(self, silent: Mapping[str, str]) -> None:
        """Once when a balancer falls silent and once when it is back, not at every look."""
        for name in silent.keys() - self._silent:
            _log.warning("balancer %s does not answer, it will be set later: %s", name, silent[name])
        for name in self._silent - silent.keys():
            _log.warning("balancer %s answers again", name)
        self._silent = frozenset(silent)


def _routing(service: Service) -> Routing:
    if service.routing is None:
        raise UsageError(f"{service.name} has no routing, so no balancer serves it")
    return service.routing


def _backends(routing: Routing) -> tuple[str, ...]:
    return tuple(backend for backend in (routing.backend, routing.read_backend) if backend is not None)


def cut_backends(platform: Platform) -> set[str]:
    """Where a server that is taken out loses its sessions: a superseded primary must not serve on."""
    return {
        s.routing.backend
        for s in platform.services.values()
        if s.kind is ServiceKind.POSTGRES and s.routing is not None
    }


def backends_of_others(platform: Platform) -> set[str]:
    """Of services that others lead: who serves there is theirs to say. Sentinel does not do it: we do."""
    theirs = [s for s in platform.services.values() if not is_ours(s) and s.sentinel is None]
    routings = [s.routing for s in theirs if s.routing is not None]
    return {b for routing in routings for b in _backends(routing)}
