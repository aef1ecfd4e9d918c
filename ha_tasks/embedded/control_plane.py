"""The control plane of the stack as its supervisor uses it: the store, the wanted servers, the proofs."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from ha_tasks.embedded.haproxy import default_closed
from ha_tasks.embedded.home import Home
from ha_tasks.embedded.inventory import CLUSTER, WEB
from ha_tasks.embedded.layout import nodes_at
from ha_tasks.embedded.postgres import FIRST_PRIMARY
from ha_tasks.errors import StartFailed
from ha_tasks.model.balancer import ServerState

if TYPE_CHECKING:
    from ha_tasks.bootstrap import System

ENTRY_TIMEOUT_S = 1.5


class ControlPlane:
    """Opened once, by the job of that name; everything else needs that job."""

    def __init__(self, home: Home, environment: Mapping[str, str]) -> None:
        self._home = home
        self._environment = {**environment, "HA_TASKS_PROCESS": "supervisor"}
        self._system: System | None = None
        self._since: datetime | None = None

    @property
    def system(self) -> System:
        """Raises StartFailed before ``open``."""
        if self._system is None:
            raise StartFailed("the control plane was used before it was opened")
        return self._system

    def open(self) -> None:
        """Brings the store's tables up to date and records what is wanted at first. Idempotent."""
        # Imported here, in the job's thread, while the first servers start: it takes half a second.
        from ha_tasks.bootstrap import assemble, load_inventory

        system = assemble(load_inventory(self._home.root, self._environment), environ=self._environment)
        system.store.migrate()
        # The file was written by this program a moment ago: there is nobody who could look at it first.
        system.apply("demo", "the demo's own inventory")
        self._since = system.clock.now()
        self._want_first(system)
        self._system = system

    def _want_first(self, system: System) -> None:
        """Only where nothing is recorded yet."""
        servers = {("web", name) for name in WEB}
        nodes = nodes_at(self._home)
        servers |= {(backend, node) for backend in ("pg_write", "pg_read") for node in nodes}
        unknown = servers - {(w.backend, w.server) for w in system.store.wanted.all()}
        closed = default_closed(WEB, nodes, FIRST_PRIMARY)
        changes = {s: ServerState.MAINT if s in closed else ServerState.READY for s in unknown}
        if changes:
            system.store.wanted.want(changes, "first start", system.clock.now())

    def closed(self) -> set[tuple[str, str]]:
        """(backend, server) pairs that must not start ready, by what is recorded."""
        wanted = self.system.store.wanted.all()
        return {(w.backend, w.server) for w in wanted if w.state is not ServerState.READY}

    def missing_worker(self, process: str) -> str | None:
        """None once the process of that name has reported itself to the store since this start."""
        reported = {worker.name.rpartition("/")[2] for worker in self.system.store.ledger.workers(self.since)}
        return None if process in reported else f"{process} has not reported itself to the store yet"

    def missing_execution(self) -> str | None:
        """None once a task that beat scheduled was sent, executed and recorded since this start."""
        latest = max(self.system.store.schedule.successes().values(), default=None)
        if latest is not None and latest >= self.since:
            return None
        return "no scheduled task was executed by a worker yet"

    def missing_look(self, observers: Sequence[str]) -> str | None:
        """None once each observer has seen every instance of every service answer since this start."""
        targets = {
            (service.name, instance.name)
            for service in self.system.platform.services.values()
            for instance in service.instances
        }
        seen: dict[str, set[tuple[str, str]]] = {observer: set() for observer in observers}
        for outcome in self.system.store.observations.since(self.since):
            if outcome.ok:
                place = (outcome.target.service, outcome.target.instance)
                seen.setdefault(outcome.vantage.rpartition("/")[2], set()).add(place)
        for observer in observers:
            for service, instance in sorted(targets - seen[observer]):
                return f"{observer} has not seen {instance} of {service} answer yet"
        return None

    def missing_write(self) -> str | None:
        """None once a row was written and read back through the balancer. Raises an error of the tree."""
        service = self.system.platform.services[CLUSTER]
        entry = service.routing.entry if service.routing else ""
        self.system.control.write_canary(service, entry, f"start-{uuid.uuid4()}", ENTRY_TIMEOUT_S)
        return None

    @property
    def since(self) -> datetime:
        """When this start began, by the store's clock."""
        if self._since is None:
            raise StartFailed("the control plane was used before it was opened")
        return self._since
