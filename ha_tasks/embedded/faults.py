"""Faults on the embedded stack: real signals to real processes. Implements ports.faults.Faults.

What lasts (a node that stays away, a frozen agent) is a file in the home, so that whoever comes next can
release it, also when the drill itself was killed.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from ha_tasks.adapters.deadline import Deadline
from ha_tasks.adapters.postgres_session import Login, Session
from ha_tasks.embedded import state
from ha_tasks.embedded.home import Home
from ha_tasks.embedded.inventory import APP_ROLE, DATABASE, HOSTS
from ha_tasks.embedded.postgres import postmaster_pid
from ha_tasks.embedded.reaper import descendants, is_postgres_below
from ha_tasks.embedded.secret_files import read
from ha_tasks.errors import DeadlineExceeded, HaTasksError, ServiceUnreachable
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Instance, Platform, Service, ServiceKind
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.host import UnitAgent

GONE_TIMEOUT_S = 5.0
ASK_TIMEOUT_S = 2.0


class EmbeddedFaults:
    """See ports/faults.py. ``home`` is the home of the running stack."""

    def __init__(self, *, home: Home, platform: Platform, units: UnitAgent, clock: Clock) -> None:
        self._home = home
        self._platform = platform
        self._units = units
        self._clock = clock

    def kill_process(self, name: str) -> datetime:
        """Its supervisor starts it again. Raises ServiceUnreachable when it does not run."""
        pid = self._pid(name)
        # What an agent started is no part of it: it goes on without its agent.
        victims = {pid} if name in HOSTS.values() else {pid, *descendants(pid)}
        moment = self._clock.now()
        _kill(victims)
        self._until_gone(victims)
        return moment

    def kill_postmaster(self, node: str) -> datetime:
        """Its children go on for some tenths of a second; that is part of the fault."""
        pid = postmaster_pid(self._home, node)
        if pid is None:
            raise ServiceUnreachable(f"no PostgreSQL runs on {node}")
        moment = self._clock.now()
        _kill({pid})
        self._until_gone({pid})
        return moment

    def kill_node(self, node: str) -> datetime:
        """The agent stays away until released: the supervisor sees the file."""
        agent = HOSTS[node]
        pid = self._pid(agent)
        (self._home.hold / agent).touch()
        victims = {pid, *descendants(pid), *self._postgres(node)}
        moment = self._clock.now()
        _kill(victims)
        self._until_gone({pid})
        # Again and again: a backend that was being forked was in no list.
        deadline = time.monotonic() + GONE_TIMEOUT_S
        while left := self._postgres(node):
            if time.monotonic() > deadline:
                raise DeadlineExceeded(f"PostgreSQL of {node} does not die: {sorted(left)}")
            _kill(left)
            time.sleep(0.005)
        return moment

    def freeze_agent(self, node: str) -> datetime:
        """It takes connections (the kernel does) and says nothing."""
        pid = self._pid(HOSTS[node])
        self._frozen(pid).touch()
        moment = self._clock.now()
        os.kill(pid, signal.SIGSTOP)
        return moment

    def release(self) -> None:
        """Thaws and lets come back; without effect when there is nothing. Idempotent."""
        for file in list(self._home.hold.iterdir()):
            kind, _, pid = file.name.partition("_")
            if kind == "frozen":
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGCONT)
            file.unlink(missing_ok=True)

    def evidence(self) -> Json:
        """See the port: starts of units by the agents, and who takes the writes, by the servers."""
        found: Json = {}
        for service in self._platform.services.values():
            if service.kind is ServiceKind.HTTP:
                for instance in service.instances:
                    found |= self._starts(instance)
            elif service.kind is ServiceKind.POSTGRES:
                found |= self._primary(service)
        return found

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
        login = Login(user=APP_ROLE, database=DATABASE, password=read(self._home.secret("pg-app")))
        within = Deadline(self._clock, ASK_TIMEOUT_S)
        sql = (
            "SELECT current_setting('cluster_name'), "
            "('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int"
        )
        try:
            with Session(
                service.routing.entry, login, within=within, statement_timeout_s=ASK_TIMEOUT_S
            ) as session:
                node, timeline = session.query(sql, within=within)[0]
        except ServiceUnreachable:
            return {}
        return {f"primary.{service.name}": node, f"timeline.{service.name}": int(timeline or 0)}

    def _pid(self, name: str) -> int:
        """Of a process of the record; one that is no longer ours is none."""
        for process in state.load(self._home).processes:
            if process.name == name and self._is_ours(process.pid):
                return process.pid
        raise ServiceUnreachable(f"no process {name} runs in the stack of {self._home.root}")

    def _is_ours(self, pid: int) -> bool:
        """A pid may have been used again: ours bear the stack's mark."""
        mark = f"HA_TASKS_STACK={self._home.stack.read_text().strip()}".encode()
        try:
            return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False

    def _postgres(self, node: str) -> set[int]:
        directory = f"{self._home.node_dir(node)}/"
        pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
        return {pid for pid in pids if is_postgres_below(pid, directory)}

    def _until_gone(self, pids: set[int]) -> None:
        """Gone, or dead and waiting for its parent: both can do nothing any more."""
        deadline = time.monotonic() + GONE_TIMEOUT_S
        while any(map(_lives, pids)):
            if time.monotonic() > deadline:
                raise DeadlineExceeded(f"these processes do not die: {sorted(filter(_lives, pids))}")
            time.sleep(0.002)

    def _frozen(self, pid: int) -> Path:
        return self._home.hold / f"frozen_{pid}"


def _kill(pids: set[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
