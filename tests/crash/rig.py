"""A whole control plane of real processes for the trials, and the hands that stop and wake them.

Valkey, HAProxy, three web services under a host agent, two workers, two beats and the sidecar, on a store
that is SQLite or PostgreSQL. No observer: every run is ordered by a trial. What is dead after a trial is
started again before the next.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import psutil
import redis

from ha_tasks.bootstrap import System, assemble, load_inventory
from ha_tasks.disaster_recovery.playbooks import load_playbooks
from ha_tasks.disaster_recovery.recovery_planner import RecoveryPlanner
from ha_tasks.embedded.binaries import resolve
from ha_tasks.embedded.nursery import ROOM
from ha_tasks.embedded.stack import WARM_MODULES
from ha_tasks.model.balancer import ServerState
from ha_tasks.model.incident import Incident, IncidentKind, IncidentState
from ha_tasks.model.playbook import Plan
from ha_tasks.model.run import TERMINAL, Run
from ha_tasks.ports.repositories import NewRun
from ha_tasks.tasks.app import make_app
from ha_tasks.tasks.dispatch import CeleryDispatch
from tests.crash.actions import DIRECTORY
from tests.servers import PostgresServer, free_port
from tests.valkey_server import PASSWORD

LEASE_S = 1.5
ROOT = Path(__file__).parents[2]
WORKERS = ("recovery-1", "recovery-2")
BEATS = ("beat-a", "beat-b")
WEB = ("web1", "web2", "web3")
IDLE = ("idle1", "idle2", "idle3")
"""Services of which nothing runs, so that runs that turn round can go on side by side."""
_WORKER = (
    "--loglevel=INFO",
    "-P",
    "prefork",
    "-c",
    "2",
    "-Q",
    "recovery",
    "--without-gossip",
    "--without-mingle",
)

TURNS = "trial-compensation"
PLAYBOOK = """\
schema = 1
name = "trial-compensation"
version = 1
summary = "three grants, then a failure: all three are taken back, last first"
recovery_type = "restart"
priority = 10
[match]
incident = "instance_down"
kind = "http"
"""
GRANTS = ("first", "second", "third")


def eventually(holds: Callable[[], object], within_s: float, what: str | Callable[[], str]) -> None:
    ends = time.monotonic() + within_s
    while not holds():
        late = time.monotonic() >= ends
        assert not late, f"not within {within_s:.1f} s: {what if isinstance(what, str) else what()}"
        time.sleep(0.02)


def alive(pid: int | None) -> bool:
    """Running or stopped, but not dead."""
    try:
        return pid is not None and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Nursery:
    """Starts Python processes by forking one that has imported everything: half a second instead of three."""

    def __init__(self, home: Path, environment: Mapping[str, str]) -> None:
        self._home = home
        with (home / "nursery.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "ha_tasks.embedded.nursery",
                    *WARM_MODULES,
                    "tests.crash.actions",
                    ROOM,
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=home,
                env=dict(environment),
                text=True,
            )
        self._answer()

    def start(self, name: str, module: str, *arguments: str) -> int:
        request = {
            "module": module,
            "arguments": arguments,
            "environment": {"HA_TASKS_PROCESS": name},
            "cwd": str(self._home),
            "log": str(self._home / f"{name}.log"),
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"start": request}) + "\n")
        self._process.stdin.flush()
        return int(self._answer()["pid"])

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _answer(self) -> dict[str, int]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, (self._home / "nursery.log").read_text()[-2000:]
        return json.loads(line)


@dataclass
class Rig:
    """One control plane. ``store``: sqlite or postgres."""

    home: Path
    store_kind: str = "sqlite"
    pids: dict[str, int] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    cases: int = 0
    whole: bool = True
    """False while a trial runs, and after one that failed."""

    def __post_init__(self) -> None:
        self.points = self.home / "crash-points"
        self.registers = self.home / "registers"
        for directory in (self.points, self.registers, self.home / "secrets", self.home / "broker"):
            directory.mkdir()
        names = ("broker", "agent", "api", "web", "metrics", *WEB)
        self.ports = {name: free_port() for name in names}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._postgres: PostgresServer | None = None
        self.nursery: Nursery | None = None

    # what it is made of

    def start(self) -> None:
        url = self._store_url()
        self._write_files(url)
        self.system.store.migrate()
        self._began = self.system.clock.now()
        for name in ("broker", "haproxy", "agent"):
            self.start_server(name)
        wanted = {("web", name): ServerState.MAINT if name == "web3" else ServerState.READY for name in WEB}
        self.system.store.wanted.want(wanted, "the trials begin", self.system.clock.now())
        self.nursery = Nursery(self.home, self.environment)
        self.heal()
        eventually(lambda: self.rotation()["web2"], 10, "the balancer finds web2 up")

    def stop(self) -> None:
        for name in (*WORKERS, *BEATS, "sidecar"):
            for pid in self._family(name):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if self.nursery is not None:
            self.nursery.close()
        for process in self._children.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(10)
        for name in WEB:
            self._end_unit(name)
        self.system.store.dispose()
        if self._postgres is not None:
            self._postgres.stop()

    @cached_property
    def system(self) -> System:
        """This process's own, with the broker."""
        inventory = load_inventory(self.home, self.environment)
        app = make_app(inventory.broker_url())
        return assemble(inventory, dispatch=CeleryDispatch(app), environ=self.environment)

    @cached_property
    def environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("HA_TASKS")}
        paths = [str(self.home / "site"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        return inherited | {
            "HA_TASKS_HOME": str(self.home),
            "HA_TASKS_CRASH_POINTS": str(self.points),
            DIRECTORY: str(self.registers),
            "PYTHONPATH": os.pathsep.join(paths),
        }

    # processes

    def heal(self) -> None:
        """Everything runs and reports itself."""
        self.start_what_is_dead()
        eventually(self._all_report, 60, "every process reports itself to the store")

    def start_what_is_dead(self) -> None:
        """And wakes what is paused."""
        for name in (*WORKERS, *BEATS, "sidecar"):
            self._wake(name)
            if not alive(self.pids.get(name)):
                self.pids[name] = self._start(name)
        for name in ("broker", "haproxy", "agent"):
            if self._children[name].poll() is not None:
                self.start_server(name)

    def dead(self) -> set[str]:
        """Python processes that do not live any more."""
        return {name for name in (*WORKERS, *BEATS, "sidecar") if not alive(self.pids.get(name))}

    def start_server(self, name: str) -> None:
        commands = {
            "broker": [str(resolve("valkey").path), str(self.home / "broker.conf")],
            "haproxy": [str(resolve("haproxy").path), "-db", "-f", str(self.home / "haproxy.cfg")],
            "agent": [sys.executable, "-m", "workers.host_agent", "--config", str(self.home / "agent.toml")],
        }
        with (self.home / f"{name}.log").open("ab") as log:
            self._children[name] = subprocess.Popen(
                commands[name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home,
                env=self.environment,
            )
        self.pids[name] = self._children[name].pid
        if name == "broker":
            eventually(self._broker_answers, 10, "the broker answers")

    def kill_server(self, name: str) -> None:
        self._children[name].kill()
        self._children[name].wait(10)

    def empty_broker(self) -> None:
        """What it kept is gone. It must not run."""
        shutil.rmtree(self.home / "broker")
        (self.home / "broker").mkdir()

    def signal(self, name: str, number: signal.Signals) -> None:
        """To a process and its children."""
        for pid in self._family(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def worker_of(self, pid: int) -> str:
        """The worker of which that process is a part."""
        return next(name for name in WORKERS if pid in self._family(name))

    @contextlib.contextmanager
    def nobody_writes(self) -> Iterator[None]:
        """While it lasts no process is in a transaction that writes into SQLite.

        One that is paused in such a transaction keeps SQLite's only write lock from everybody until it is
        woken or dies: a limit of that store, which PostgreSQL does not have.
        """
        if self.store_kind != "sqlite":
            yield
            return
        with contextlib.closing(sqlite3.connect(self.home / "ha.db", isolation_level=None)) as store:
            store.execute("BEGIN IMMEDIATE")
            yield
            store.execute("ROLLBACK")

    def acting_beat(self) -> str:
        """The name of the beat that leads."""
        lease = self.system.store.leadership.look("beat")
        assert lease is not None, "no beat leads"
        return next(name for name in BEATS if f"/{name}" in lease.holder)

    def _family(self, name: str) -> list[int]:
        try:
            process = psutil.Process(self.pids[name])
            return [process.pid, *(child.pid for child in process.children(recursive=True))]
        except (KeyError, psutil.NoSuchProcess):
            return []

    def _wake(self, name: str) -> None:
        self.signal(name, signal.SIGCONT)

    def _start(self, name: str) -> int:
        if name == "sidecar":
            return self.nursery.start(name, "workers.metrics_sidecar")
        if name in BEATS:
            return self.nursery.start(
                name, "celery", "-A", "workers.app", "beat", "--loglevel=WARNING", "--pidfile="
            )
        return self.nursery.start(name, "celery", "-A", "workers.app", "worker", "-n", f"{name}@%h", *_WORKER)

    def _all_report(self) -> bool:
        heard = {w.name.rpartition("/")[2]: w.pid for w in self.system.store.ledger.workers(self._began)}
        return all(heard.get(name) == self.pids[name] for name in (*WORKERS, *BEATS))

    def _broker_answers(self) -> bool:
        try:
            with redis.Redis(port=self.ports["broker"], password=PASSWORD, socket_timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def _end_unit(self, name: str) -> None:
        record = self.home / "agent" / "units" / f"{name}.json"
        if record.exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(json.loads(record.read_text())["pid"], signal.SIGKILL)

    # runs

    def order(self, playbook: str, service: str = "web") -> Run:
        """A run of that playbook for the service's first instance, and its incident; sent to the workers."""
        self.cases += 1
        now = self.system.clock.now()
        incident, _ = self.system.store.incidents.open(
            key=f"case-{self.cases}",
            service=service,
            instance=self.system.platform.services[service].instances[0].name,
            kind=IncidentKind.INSTANCE_DOWN,
            severity="warning",
            summary=f"trial {self.cases}",
            fault_at=now,
            now=now,
            actor="trial",
            evidence={},
        )
        new = NewRun(
            plan=self._plan(playbook, incident),
            incident=incident.id,
            mode="drill",
            requested_by="trial",
            reason=f"trial {self.cases}",
            idempotency_key=f"incident-{incident.id}",
        )
        run, message = self.system.store.journal.create(new, now)
        assert message is not None
        self.system.store.incidents.move(
            incident.id, IncidentState.RECOVERING, now, "trial", "run started", run=run.id
        )
        self.system.orchestrator.send(message)
        return run

    def run(self, number: int) -> Run:
        return self.system.store.journal.get(number)

    def ended(self, number: int) -> bool:
        return self.run(number).state in TERMINAL

    def _plan(self, playbook: str, incident: Incident) -> Plan:
        books = load_playbooks((self.home / "playbooks",) if playbook == TURNS else ())
        book = next(b for b in books if b.name == playbook)
        return RecoveryPlanner(self.system.platform, [book]).create_recovery_plan(incident)

    def restarts(self, key: str) -> int:
        """How often the agent really started web1 for that key: its evidence, not ours."""
        starts = self.home / "agent" / "units" / "web1.starts"
        return sum(line.endswith(f"key={key}") for line in starts.read_text().splitlines())

    def rotation(self) -> dict[str, bool]:
        """Which web servers HAProxy itself says it serves from."""
        return {name: self.system.balancer.is_up("web", name) for name in WEB}

    # files

    def _store_url(self) -> str:
        if self.store_kind == "sqlite":
            return "sqlite:///ha.db"
        (self.home / "postgres").mkdir(mode=0o777)
        (self.home / "postgres").chmod(0o777)
        self._postgres = PostgresServer(self.home / "postgres")
        self._postgres.initialise()
        self._postgres.start()
        return self._postgres.create_database("ha")

    def _write_files(self, store_url: str) -> None:
        for name in ("broker", "agent-key"):
            secret = self.home / "secrets" / name
            secret.write_text(PASSWORD)
            secret.chmod(0o600)
        (self.home / "ha-tasks.toml").write_text(self._inventory(store_url))
        (self.home / "playbooks").mkdir()
        (self.home / "playbooks" / "trial-compensation.toml").write_text(PLAYBOOK + self._steps())
        (self.home / "broker.conf").write_text(
            f'bind 127.0.0.1\nport {self.ports["broker"]}\nsave ""\ndir "{self.home / "broker"}"\n'
            f"requirepass {PASSWORD}\nappendonly yes\nappendfsync everysec\nmaxmemory-policy noeviction\n"
        )
        (self.home / "haproxy.cfg").write_text(self._haproxy())
        (self.home / "agent.toml").write_text(self._agent())
        info = self.home / "site" / "ha_tasks_trials-1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ha-tasks-trials\nVersion: 1\n")
        (info / "entry_points.txt").write_text(
            "[ha_tasks.actions]\n"
            + "".join(f"trial.{value} = tests.crash.actions:grant\n" for value in GRANTS)
            + "trial.break = tests.crash.actions:breaking\n"
        )

    @staticmethod
    def _steps() -> str:
        steps = [
            f'[[step]]\nid = "{value}"\naction = "trial.{value}"\nargs = {{ value = "{value}" }}\n'
            for value in GRANTS
        ]
        return "\n".join(
            (*steps, '[[step]]\nid = "breaks"\naction = "trial.break"\nundo = "keep"\nattempts = 1\n')
        )

    def _inventory(self, store_url: str) -> str:
        instances = "".join(
            f'[[services.web.instances]]\nname = "{name}"\nhost = "app"\n'
            f'address = "127.0.0.1:{self.ports[name]}"\nunit = "{name}"\n'
            f'role = "{"spare" if name == "web3" else "active"}"\n'
            for name in WEB
        )
        idle = "".join(
            f'[services.{name}]\nkind = "http"\n'
            f'[[services.{name}.instances]]\nname = "{name}a"\naddress = "127.0.0.1:{free_port()}"\n'
            for name in IDLE
        )
        return f"""\
schema = 1
[platform]
name = "trials"
[store]
url = "{store_url}"
[broker]
url = "redis://127.0.0.1:{self.ports["broker"]}/0"
password = {{ file = "secrets/broker" }}
[agents]
key = {{ file = "secrets/agent-key" }}
[metrics]
listen = "127.0.0.1:{self.ports["metrics"]}"
[playbooks]
directories = ["playbooks"]
[hosts.app]
agent = "http://127.0.0.1:{self.ports["agent"]}"
[balancers.edge]
socket = "tcp://127.0.0.1:{self.ports["api"]}"
[policies]
lease_s = {LEASE_S}
[services.web]
kind = "http"
[services.web.check]
path = "/healthz"
[services.web.routing]
backend = "web"
entry = "http://127.0.0.1:{self.ports["web"]}/"
{instances}{idle}"""

    def _haproxy(self) -> str:
        servers = "".join(
            f"  server {name} 127.0.0.1:{self.ports[name]} check inter 100ms fall 2 rise 1"
            f"{' disabled' if name == 'web3' else ''}\n"
            for name in WEB
        )
        return (
            f"global\n  stats socket 127.0.0.1:{self.ports['api']} level admin\n"
            "defaults\n  mode http\n  timeout connect 500ms\n  timeout client 10s\n  timeout server 10s\n"
            f"frontend web\n  bind 127.0.0.1:{self.ports['web']}\n  default_backend web\n"
            f"backend web\n  option httpchk GET /healthz\n{servers}"
        )

    def _agent(self) -> str:
        units = "".join(
            f"[units.{name}]\nautostart = true\n"
            f'command = ["{sys.executable}", "-m", "ha_tasks.embedded.web", "--name", "{name}", '
            f'"--port", "{self.ports[name]}"]\ncwd = "{ROOT}"\n'
            for name in WEB
        )
        return (
            f'schema = 1\nhost = "app"\nlisten = "127.0.0.1:{self.ports["agent"]}"\n'
            f'key = {{ file = "secrets/agent-key" }}\nstate_dir = "agent"\n{units}'
        )


@contextlib.contextmanager
def running_rig(home: Path, store_kind: str) -> Iterator[Rig]:
    rig = Rig(home, store_kind)
    rig.start()
    try:
        yield rig
    finally:
        rig.stop()
