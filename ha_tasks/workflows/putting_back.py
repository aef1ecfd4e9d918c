"""Putting back what a recovery took out and could not bring back, once a person has mended it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Protocol

from ha_tasks.model.balancer import ServerState, WantedServer
from ha_tasks.model.platform import Role, Service
from ha_tasks.model.probe import ProbeOutcome
from ha_tasks.ports.repositories import Journal, Observations, WantedServers

SEEN_WITHIN = timedelta(seconds=5)


class PutBackSources(Protocol):
    """What is looked at, and where it is written down; the store has it under these names."""

    @property
    def journal(self) -> Journal:
        """Runs."""
        ...

    @property
    def observations(self) -> Observations:
        """Outcomes of probes."""
        ...

    @property
    def wanted(self) -> WantedServers:
        """What the balancers should look like."""
        ...


def put_back(service: Service, store: PutBackSources, now: datetime, actor: str) -> tuple[str, ...]:
    """Wants the healthy ones that are out back in, and the spares out once nobody is; answers the former.

    Nothing while a run is active on the service: it has its own way back. Idempotent; the observers tell
    the balancers within a second. A database is left alone: who serves there is decided by its role.
    """
    if service.routing is None or any(r.plan.service == service.name for r in store.journal.active()):
        return ()
    outcomes = store.observations.since(now - SEEN_WITHIN, service.name)
    changes = back(service, store.wanted.all(), outcomes)
    if changes:
        backend = service.routing.backend
        wanted = {(backend, name): state for name, state in changes.items()}
        store.wanted.want(wanted, f"acknowledged by {actor}", now)
    return tuple(sorted(name for name, state in changes.items() if state is ServerState.READY))


def back(
    service: Service, wanted: Iterable[WantedServer], outcomes: Iterable[ProbeOutcome]
) -> dict[str, ServerState]:
    """Server -> state of those to be changed. Healthy: every probe of late was answered well. Pure."""
    backend = service.routing.backend if service.routing else None
    states = {row.server: row.state for row in wanted if row.backend == backend}
    seen = list(outcomes)
    active = [i.name for i in service.instances if i.role is Role.ACTIVE]
    out = [n for n in active if states.get(n, ServerState.READY) is not ServerState.READY]
    mended = [n for n in out if _healthy(n, seen)]
    changes = dict.fromkeys(mended, ServerState.READY)
    if mended and mended == out:
        spares = (i.name for i in service.instances if i.role is Role.SPARE)
        changes |= {n: ServerState.DRAIN for n in spares if states.get(n) is ServerState.READY}
    return changes


def _healthy(instance: str, outcomes: Iterable[ProbeOutcome]) -> bool:
    mine = [o.ok for o in outcomes if o.target.instance == instance]
    return bool(mine) and all(mine)
