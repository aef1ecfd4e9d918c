"""Faults on the embedded stack: real signals to real processes. Implements ports.faults.Faults.

What lasts (a node that stays away, a frozen agent, dropped packets) is a file in the home or a chain of
rules under its name, so that whoever comes next can heal it, also when the drill itself was killed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from ha_tasks.adapters.deadline import Deadline
from ha_tasks.adapters.postgres_session import Login, Session
from ha_tasks.embedded.hindrances import Hindrances
from ha_tasks.embedded.home import Home
from ha_tasks.embedded.inventory import APP_ROLE, DATABASE
from ha_tasks.embedded.node_files import SITE_CONF
from ha_tasks.embedded.secret_files import read, write_private
from ha_tasks.embedded.signals import Signals
from ha_tasks.embedded.silence import Silence
from ha_tasks.errors import HaTasksError, ServiceUnreachable, UsageError
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Instance, Platform, Service, ServiceKind
from ha_tasks.model.scenario import Deed
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.host import UnitAgent
from ha_tasks.recovery.rollback_controller import GOOD, RollbackController

ASK_TIMEOUT_S = 2.0
BROKEN = "{ of a drill\n"
"""A configuration that cannot be read."""
ARMED = "armed_"
"""Before a boundary's name: a file in ``hold`` for each that a drill has armed."""


class EmbeddedFaults:
    """See ports/faults.py. ``home`` is the home of the running stack."""

    def __init__(
        self, *, home: Home, platform: Platform, units: UnitAgent, rollback: RollbackController, clock: Clock
    ) -> None:
        self._home = home
        self._platform = platform
        self._units = units
        self._rollback = rollback
        self._clock = clock
        self._silence = Silence(home)
        self._hindrances = Hindrances(home, signals := Signals(home, clock), clock, self._login)
        self._signals = signals
        self._deeds: Mapping[Deed, Callable[[str], datetime]] = {
            Deed.KILL: signals.kill_process,
            Deed.HOLD: signals.hold_process,
            Deed.KILL_AGENT: signals.kill_agent,
            Deed.KILL_POSTMASTER: signals.kill_postmaster,
            Deed.KILL_NODE: signals.kill_node,
            Deed.FREEZE_AGENT: signals.freeze_agent,
            Deed.FREEZE_POSTMASTER: signals.freeze_postmaster,
            Deed.FREEZE_DATABASE: signals.freeze_database,
            Deed.FREEZE_NODE: signals.freeze_node,
            Deed.DARKEN: self._darken,
            Deed.PARTITION: self._partition,
            Deed.SLOW_STREAM: self._hindrances.slow_stream,
            Deed.HOLD_REPLAY: self._hold_replay,
            Deed.LOCK_STORE: lambda _: self._hindrances.lock_store(),
            Deed.BREAK_CONFIG: self._break_config,
            Deed.ARM: self._arm,
        }

    def missing(self, deed: Deed) -> str | None:
        """See the port."""
        if deed in (Deed.DARKEN, Deed.PARTITION):
            return self._silence.missing()
        if deed is Deed.BREAK_CONFIG:
            return self._no_way_back()
        if deed is Deed.LOCK_STORE and not self._home.database.exists():
            return (
                f"the state store is not in {self._home.database}: run the demo without HA_TASKS__STORE__URL"
            )
        return None

    def inject(self, deed: Deed, target: str) -> datetime:
        """See the port."""
        return self._deeds[deed](target)

    def release(self) -> tuple[str, ...]:
        """See the port."""
        unreached = tuple(self._disarmed())
        self._silence.lift()
        self._hindrances.release()
        self._signals.release()
        self._mend_config()
        return unreached

    def evidence(self) -> Json:
        """See the port: starts of units by the agents, and who takes the writes, by the servers."""
        found: Json = {}
        for service in self._platform.services.values():
            if service.kind is ServiceKind.HTTP:
                for instance in service.instances:
                    found |= self._starts(instance)
                found |= self._files(service)
            elif service.kind is ServiceKind.POSTGRES:
                found |= self._primary(service)
        return found

    def _no_way_back(self) -> str | None:
        for service in self._platform.services.values():
            if service.files and service.kind is ServiceKind.HTTP:
                try:
                    self._rollback.target(service, GOOD)
                except UsageError as error:
                    return f"{error} yet: what serves well for a minute is; try again then"
        return None

    def _break_config(self, _instance: str) -> datetime:
        moment = self._clock.now()
        write_private(self._home.site_conf, BROKEN)
        return moment

    def _mend_config(self) -> None:
        """Only what a drill has broken: somebody else's file is somebody else's."""
        if self._home.site_conf.exists() and self._home.site_conf.read_text() == BROKEN:
            write_private(self._home.site_conf, SITE_CONF)

    def _files(self, service: Service) -> Json:
        present = self._rollback.present(service, timeout_s=ASK_TIMEOUT_S)
        if len(present) < len(service.files):
            return {}
        return {f"files.{service.name}": " ".join(f"{key} {digest}" for key, digest in present.items())}

    def _darken(self, node: str) -> datetime:
        return self._silence.fall((self._port(node), self._agent_port(node)))

    def _partition(self, node: str) -> datetime:
        return self._silence.fall((self._agent_port(node),), reached_by_balancer=(self._port(node),))

    def _hold_replay(self, node: str) -> datetime:
        service = self._service_of(node)
        if service.routing is None:
            raise ServiceUnreachable(f"{service.name} has no entry to write through")
        return self._hindrances.hold_replay(service.instance(node).address, service.routing.entry)

    def _arm(self, boundary: str) -> datetime:
        moment = self._clock.now()
        (self._home.hold / f"{ARMED}{boundary}").touch()
        (self._home.crash_points / boundary).touch()
        return moment

    def _disarmed(self) -> Iterator[str]:
        """What was armed by a drill, and not by whoever else rehearses here."""
        for marker in list(self._home.hold.glob(f"{ARMED}*")):
            armed = self._home.crash_points / marker.name.removeprefix(ARMED)
            if armed.exists():
                armed.unlink(missing_ok=True)
                yield f"nobody came to the boundary {armed.name}"

    def _service_of(self, node: str) -> Service:
        for service in self._platform.services.values():
            if service.kind is ServiceKind.POSTGRES and any(i.name == node for i in service.instances):
                return service
        raise ServiceUnreachable(f"no PostgreSQL service has a node {node}")

    def _port(self, node: str) -> int:
        return _port_of(self._service_of(node).instance(node).address)

    def _agent_port(self, node: str) -> int:
        host = self._service_of(node).instance(node).host
        return _port_of(self._platform.hosts[host].agent_url)

    def _starts(self, instance: Instance) -> Json:
        if not instance.unit:
            return {}
        try:
            status = self._units.unit_status(instance.host, instance.unit)
        except HaTasksError:
            return {}
        return {f"starts.{instance.name}": int(status["starts"])}

    def _primary(self, service: Service) -> Json:
        if service.routing is None:
            return {}
        within = Deadline(self._clock, ASK_TIMEOUT_S)
        sql = (
            "SELECT current_setting('cluster_name'), "
            "('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int"
        )
        try:
            with Session(
                service.routing.entry, self._login(), within=within, statement_timeout_s=ASK_TIMEOUT_S
            ) as session:
                node, timeline = session.query(sql, within=within)[0]
        except ServiceUnreachable:
            return {}
        return {f"primary.{service.name}": node, f"timeline.{service.name}": int(timeline or 0)}

    def _login(self) -> Login:
        return Login(user=APP_ROLE, database=DATABASE, password=read(self._home.secret("pg-app")))


def _port_of(address: str) -> int:
    return int(address.rstrip("/").rpartition(":")[2])
