"""A real Patroni cluster on PostgreSQL 15 with a real etcd, for tests and the failover bench.

Every process listens on this machine only, keeps its files in its own directory, and is ended by its pid.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from ha_tasks.embedded.unprivileged import choose, give
from ha_tasks.model.platform import (
    Instance,
    ManagedBy,
    PatroniApi,
    PostgresSettings,
    Role,
    Service,
    ServiceKind,
)
from tests.network import Network
from tests.servers import free_port

ROOT = Path(__file__).parent.parent
PROGRAMS = Path("/usr/lib/postgresql/15/bin")
"""Debian's: what the figures are compared on."""
SUPERUSER, PASSWORD = "postgres", "only-for-this-test"
API_USER, API_PASSWORD = "ha_tasks", "api-pass-for-this-test-only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """Patroni's timers in seconds; the defaults here are Patroni's own."""

    ttl: int = 30
    loop_wait: int = 10
    retry_timeout: int = 10
    primary_start_timeout: int = 300
    synchronous: bool = False


LOWEST = Tuning(ttl=20, loop_wait=1, retry_timeout=3, primary_start_timeout=0)
"""The lowest that Patroni's documentation allows."""


def patroni_python() -> Path:
    """The interpreter that has Patroni; made when it is missing, which takes seconds."""
    subprocess.run([ROOT / "scripts/patroni"], check=True, timeout=300, stdin=subprocess.DEVNULL)
    return ROOT / ".patroni/bin/python"


class Etcd:
    """One etcd, which is enough for one machine."""

    def __init__(self, home: Path, address: str) -> None:
        home.mkdir(parents=True)
        self.home = home
        self.address = address
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, within_s: float = 20.0) -> None:
        """Returns once it is healthy."""
        client, peer = f"http://{self.address}:{self.port}", f"http://127.0.0.1:{free_port()}"
        options = {
            "name": "etcd1",
            "data-dir": str(self.home / "data"),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"etcd1={peer}",
        }
        command = ["etcd", *(part for name, value in options.items() for part in (f"--{name}", value))]
        with (self.home / "etcd.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + within_s
        while answer(f"{client}/health") is None:
            assert time.monotonic() < deadline, (self.home / "etcd.log").read_text()[-2000:]
            time.sleep(0.05)

    def stop(self) -> None:
        """Idempotent."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
        self.process = None


@dataclass
class PatroniNode:
    """One member: Patroni and, below it, PostgreSQL."""

    name: str
    home: Path
    address: str = "127.0.0.1"
    way: Sequence[str] = ()
    """What its commands begin with, to run in a network namespace."""
    port: int = field(default_factory=free_port)
    api: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        return self.home / "pgdata"

    @property
    def log(self) -> Path:
        return self.home / "patroni.log"

    @property
    def url(self) -> str:
        """Of its REST API."""
        return f"http://{self.address}:{self.api}"

    @property
    def place(self) -> str:
        """``host:port`` of its PostgreSQL."""
        return f"{self.address}:{self.port}"

    def agent(self) -> int:
        """Pid of Patroni itself: what prepares the way to it replaces itself."""
        assert self.process is not None
        return self.process.pid

    def postmaster(self) -> int | None:
        """None when none runs."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().splitlines()[0])
            return pid if psutil.Process(pid).is_running() else None
        except (OSError, ValueError, IndexError, psutil.Error):
            return None

    def start(self, python: Path) -> None:
        """Begins; does not wait."""
        way = [*self.way, *choose(os.geteuid()).prefix]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*way, str(python), "-m", "patroni", str(self.home / "patroni.json")],
                cwd=self.home,
                env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(self.home)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def status(self) -> dict[str, Any] | None:
        """What its REST API says of it; None when it does not answer."""
        found = answer(f"{self.url}/patroni")
        return found if isinstance(found, dict) else None

    def stop(self) -> None:
        """Patroni and every process of the data directory, at once. Idempotent."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(10)
        self.process = None
        for pid in postgres_of(self.data):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def postgres_of(data: Path) -> list[int]:
    """Every process of the postmaster of that directory, itself first, also when it is dead by now."""
    here = str(data.resolve())
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.name().startswith("postgres") and process.cwd() == here:
                found.append(process)
    found.sort(key=lambda p: p.create_time())
    return [process.pid for process in found]


class PatroniCluster:
    """``start`` -> ... -> ``stop``. ``nodes`` are n1, n2, ...; which of them leads Patroni decides."""

    def __init__(
        self, home: Path, *, tuning: Tuning = LOWEST, nodes: int = 3, network: Network | None = None
    ) -> None:
        """``network``: each node is a host of its own there; None: all are on loopback."""
        home.chmod(0o711)
        self.tuning = tuning
        self.etcd = Etcd(home / "etcd", network.gateway if network else "127.0.0.1")
        self.nodes = {name: PatroniNode(name, home / name) for name in (f"n{no + 1}" for no in range(nodes))}
        for name, node in self.nodes.items() if network else ():
            assert network is not None
            node.address, node.way = network.address(name), network.way(name)
        self._python = patroni_python()

    def start(self, within_s: float = 90.0) -> None:
        """Returns once one leads and all others stream."""
        self.etcd.start()
        for node in self.nodes.values():
            node.home.mkdir()
            give(node.home, choose(os.geteuid()))
            (node.home / "patroni.json").write_text(json.dumps(self._configuration(node), indent=1))
            node.start(self._python)
        self.await_whole(within_s)

    def await_whole(self, within_s: float = 90.0) -> str:
        """The leader, once every other member streams from it on its timeline."""
        deadline = time.monotonic() + within_s
        while (leader := self.whole()) is None:
            assert time.monotonic() < deadline, self.told()
            time.sleep(0.1)
        return leader

    def whole(self) -> str | None:
        """The leader when everybody is well; otherwise None."""
        members = self.members()
        leaders = [m for m in members if m["role"] == "leader" and m["state"] == "running"]
        others = [m for m in members if m["role"] != "leader"]
        if len(members) != len(self.nodes) or len(leaders) != 1:
            return None
        timeline = leaders[0].get("timeline")
        if not all(m["state"] == "streaming" and m.get("timeline") == timeline for m in others):
            return None
        if self.tuning.synchronous and not any(m["role"] == "sync_standby" for m in others):
            return None
        return str(leaders[0]["name"])

    def members(self) -> list[dict[str, Any]]:
        """As GET /cluster of the first node that answers says."""
        for node in self.nodes.values():
            found = answer(f"{node.url}/cluster")
            if isinstance(found, dict):
                return list(found.get("members", []))
        return []

    def leader(self) -> str | None:
        """Whom the members name; None for nobody."""
        return next((str(m["name"]) for m in self.members() if m["role"] == "leader"), None)

    def start_node(self, name: str) -> None:
        """After it was stopped or killed."""
        self.nodes[name].stop()
        self.nodes[name].start(self._python)

    def told(self) -> str:
        """The ends of all logs, for a failure."""
        ends = [f"{n.name}: {n.log.read_text()[-1500:]}" for n in self.nodes.values() if n.log.exists()]
        return "\n".join([str(self.members()), *ends])

    def stop(self) -> None:
        """Idempotent."""
        for node in self.nodes.values():
            node.stop()
        self.etcd.stop()

    def dsn(self, node: str, database: str = "postgres") -> str:
        """For psycopg, as the superuser."""
        host, port = self.nodes[node].place.split(":")
        return f"host={host} port={port} user={SUPERUSER} dbname={database}"

    def _configuration(self, node: PatroniNode) -> Mapping[str, Any]:
        """JSON is YAML, which is what Patroni reads."""
        tuning = self.tuning
        trust = ["local all all trust", "host all all all trust", "host replication all all trust"]
        login = {"username": SUPERUSER, "password": PASSWORD}
        settings = {
            "shared_buffers": "16MB",
            "max_connections": 60,
            "autovacuum": "off",
            "unix_socket_directories": "",
            "cluster_name": node.name,
        }
        return {
            "scope": "ha-test",
            "name": node.name,
            "restapi": {
                "listen": f"{node.address}:{node.api}",
                "connect_address": f"{node.address}:{node.api}",
                "authentication": {"username": API_USER, "password": API_PASSWORD},
            },
            "etcd3": {"host": f"{self.etcd.address}:{self.etcd.port}"},
            "bootstrap": {
                "dcs": {
                    "ttl": tuning.ttl,
                    "loop_wait": tuning.loop_wait,
                    "retry_timeout": tuning.retry_timeout,
                    "primary_start_timeout": tuning.primary_start_timeout,
                    "synchronous_mode": tuning.synchronous,
                    "postgresql": {"use_pg_rewind": True},
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums"],
            },
            "postgresql": {
                "listen": node.place,
                "connect_address": node.place,
                "data_dir": str(node.data),
                "bin_dir": str(PROGRAMS),
                "pgpass": str(node.home / "pgpass"),
                "authentication": {"superuser": login, "replication": login, "rewind": login},
                "parameters": settings,
                "pg_hba": trust,
            },
        }


def led_service(cluster: PatroniCluster) -> Service:
    """``db``, as an inventory would describe it."""
    return Service(
        name="db",
        kind=ServiceKind.POSTGRES,
        instances=tuple(
            Instance(name=n.name, service="db", host="", address=n.place, role=Role.NODE)
            for n in cluster.nodes.values()
        ),
        postgres=PostgresSettings(database="postgres", user=SUPERUSER),
        managed_by=ManagedBy.PATRONI,
        patroni=PatroniApi(urls=tuple(n.url for n in cluster.nodes.values()), user=API_USER),
    )


def answer(url: str, timeout_s: float = 2.0) -> Any:
    """The JSON of an URL, also of a status like 503; None when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as said:  # noqa: S310 - loopback http
            return json.load(said)
    except urllib.error.HTTPError as error:
        with suppress(ValueError):
            return json.load(error)
    except (OSError, ValueError):
        return None
    return None


@contextmanager
def running_patroni(home: Path, *, tuning: Tuning = LOWEST, nodes: int = 3) -> Iterator[PatroniCluster]:
    """A whole cluster that runs as long as the block."""
    cluster = PatroniCluster(home, tuning=tuning, nodes=nodes)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
