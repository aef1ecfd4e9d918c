"""The table of the stack: every process, what it needs, and the proof that it works."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ha_tasks.embedded import haproxy, postgres, valkey
from ha_tasks.embedded.background import in_background
from ha_tasks.embedded.binaries import Binary
from ha_tasks.embedded.control_plane import ControlPlane
from ha_tasks.embedded.home import Home
from ha_tasks.embedded.inventory import WEB
from ha_tasks.embedded.layout import APP_HOST, agent_of, hosts_of, nodes_of
from ha_tasks.embedded.node_files import NodeFiles
from ha_tasks.embedded.ports import LOOPBACK
from ha_tasks.embedded.process import Job, Node, NotReady, Process, Ready
from ha_tasks.embedded.readiness import answers_http, answers_ping, proved_by
from ha_tasks.embedded.secret_files import read, write_private
from ha_tasks.embedded.state import FLOWER_USER
from ha_tasks.embedded.unprivileged import Way
from ha_tasks.embedded.warm import Nursery
from ha_tasks.errors import StartFailed

OBSERVERS = ("probe-a", "probe-b")
RECOVERERS = ("recovery-1", "recovery-2")
BEATS = ("beat-a", "beat-b")
"""One acts, the other takes over."""
SERVER_READY_S = 30.0
PYTHON_READY_S = 60.0
"""A Python process of a machine that is busy may need that long to import everything."""

PROOF_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Everything that was decided before the first process starts."""

    home: Home
    ports: Mapping[str, int]
    socket: str
    valkey: Binary
    haproxy: Binary
    postgres: Binary
    way: Way
    versions: Mapping[str, str]
    control: ControlPlane
    nursery: Nursery

    def nodes(self) -> list[Node]:
        """The graph. Databases are up before anybody watches them, or their start would look like a fault."""
        whole = ("postgres", "haproxy", "broker", "cache", "nursery")
        return [
            self._broker(),
            self._cache(),
            self._job("store", self.control.open),
            self._job("initdb", self._initdb),
            Job(name="nursery", start=self._open_nursery, stop=self.nursery.close),
            *(self._agent(host) for host in hosts_of(self.ports)),
            self._postgres(),
            self._haproxy(),
            self._sidecar(),
            self._flower(),
            *(self._worker(name, whole, *_OBSERVING) for name in OBSERVERS),
            *(self._worker(name, whole, *_RECOVERING) for name in RECOVERERS),
            *(self._beat(name, whole) for name in BEATS),
            self._proof(),
        ]

    def write_files(self) -> None:
        """Everything that the processes read and that does not change while they run. Idempotent."""
        NodeFiles(
            home=self.home,
            ports=self.ports,
            binary=self.postgres,
            way=self.way,
            major=self._major,
        ).write()
        valkey.write_broker_conf(
            self._conf("broker.conf"),
            port=self.ports["broker"],
            directory=self.home.root / "broker",
            password_files={
                valkey.CONTROL_USER: self.home.secret("broker"),
                valkey.REQUEST_USER: self.home.secret("broker-request"),
            },
        )
        valkey.write_cache_conf(
            self._conf("cache.conf"), port=self.ports["cache"], directory=self.home.root / "cache"
        )

    def _broker(self) -> Process:
        ready = answers_ping(self.ports["broker"], self.home.secret("broker"), user=valkey.CONTROL_USER)
        return self._process(
            "broker",
            "broker",
            (str(self.valkey.path), str(self._conf("broker.conf"))),
            ready=ready,
            where=f"{self._version('valkey')}  {self._at('broker')}",
        )

    def _cache(self) -> Process:
        ready = answers_ping(self.ports["cache"])
        return self._process(
            "cache",
            "cache",
            (str(self.valkey.path), str(self._conf("cache.conf"))),
            ready=ready,
            where=f"{self._version('valkey')}  {self._at('cache')}",
        )

    def _agent(self, host: str) -> Process:
        name = agent_of(host)
        return self._process(
            name,
            "agent",
            _python("-m", "workers.host_agent", "--config", str(self._conf(f"{name}.toml"))),
            ready=answers_http(self.ports[name], "/health"),
            where=self._at(name) + ("" if host != APP_HOST else f", web services {self._all(WEB)}"),
        )

    def _postgres(self) -> Job:
        def bring_up() -> None:
            cluster = postgres.PostgresCluster(
                home=self.home, system=self.control.system, ports=dict(self.ports)
            )
            cluster.bring_up()

        nodes = nodes_of(self.ports)
        needs = ("store", "initdb", *(agent_of(node) for node in nodes))
        return Job(
            name="postgres",
            needs=needs,
            start=_in_thread(bring_up),
            stop=_in_thread(lambda: postgres.shut_down(self.home)),
            timeout_s=180.0,
            where=f"{self._version('postgres')}  primary and {_standbys(len(nodes) - 1)} {self._all(nodes)}",
        )

    def _haproxy(self) -> Process:
        conf = self._conf("haproxy.cfg")

        def prepare() -> None:
            edge = haproxy.Edge(
                socket=self.socket,
                ports=self.ports,
                web={name: self.ports[name] for name in WEB},
                nodes={name: self.ports[name] for name in nodes_of(self.ports)},
                closed=self.control.closed(),
            )
            write_private(conf, haproxy.render(edge))

        return self._process(
            "haproxy",
            "haproxy",
            (str(self.haproxy.path), "-db", "-f", str(conf)),
            needs=("store", agent_of(APP_HOST)),
            ready=answers_http(self.ports["web"], contains='"service"'),
            prepare=prepare,
            where=f"{self._version('haproxy')}  {self._all(('web', 'pg_write', 'pg_read', 'stats'))}",
        )

    def _sidecar(self) -> Process:
        return self._process(
            "sidecar",
            "sidecar",
            _python("-m", "workers.metrics_sidecar"),
            needs=("store", "broker", "nursery"),
            ready=answers_http(self.ports["metrics"], "/metrics", contains="system_availability_percentage"),
            where=self._at("metrics"),
            warm=True,
        )

    def _flower(self) -> Process:
        def login() -> str:
            return f"{FLOWER_USER}:{read(self.home.secret('flower'))}"

        return self._process(
            "flower",
            "flower",
            _celery("flower", f"--conf={_flower_conf()}", f"--port={self.ports['flower']}"),
            needs=("broker", "nursery"),
            ready=answers_http(self.ports["flower"], "/workers", basic_auth=login, contains="Flower"),
            where=self._at("flower"),
            warm=True,
        )

    def _worker(self, name: str, needs: tuple[str, ...], *arguments: str) -> Process:
        return self._process(
            name,
            "worker",
            _celery("worker", "-n", f"{name}@%h", *_QUIET, *arguments),
            needs=needs,
            ready=proved_by(lambda: self.control.missing_worker(name)),
            warm=True,
            stop_timeout_s=20.0,  # a step under way is let come to its end
        )

    def _beat(self, name: str, needs: tuple[str, ...]) -> Process:
        return self._process(
            name,
            "beat",
            _celery("beat", "--loglevel=WARNING", "--pidfile="),
            needs=needs,
            ready=proved_by(lambda: self.control.missing_worker(name)),
            warm=True,
        )

    def _proof(self) -> Job:
        """Green is what was seen to work: a write through the balancer, a task run, every instance seen."""

        async def prove() -> None:
            for look in (
                self.control.missing_write,
                self.control.missing_execution,
                lambda: self.control.missing_look(OBSERVERS),
            ):
                await _until(proved_by(look))

        needs = ("sidecar", "flower", *BEATS, *OBSERVERS, *RECOVERERS)
        where = "a row written, a scheduled task executed, every instance seen to answer"
        return Job(name="proof", needs=needs, start=prove, timeout_s=4 * PROOF_TIMEOUT_S, where=where)

    async def _open_nursery(self) -> None:
        await self.nursery.open()
        await self.nursery.ready()

    @property
    def _major(self) -> int:
        return int(self.versions["postgres"].partition(".")[0])

    def _initdb(self) -> None:
        postgres.make_first_data(self.home, self.postgres, self.way, self._major)

    def _job(self, name: str, work: Callable[[], None]) -> Job:
        return Job(name=name, start=_in_thread(work))

    def _process(
        self,
        name: str,
        kind: str,
        command: tuple[str, ...],
        *,
        ready: Ready,
        needs: tuple[str, ...] = (),
        warm: bool = False,
        where: str = "",
        stop_timeout_s: float = 5.0,
        prepare: Callable[[], None] | None = None,
    ) -> Process:
        return Process(
            name=name,
            kind=kind,
            command=command,
            log=self.home.log_of(name),
            needs=needs,
            ready=ready,
            ready_timeout_s=PYTHON_READY_S if warm else SERVER_READY_S,
            # A look into the store costs more than a connection, and takes CPU from what is looked for.
            look_every_s=0.2 if warm else 0.05,
            environment={"HA_TASKS_PROCESS": name},
            prepare=prepare,
            stop_timeout_s=stop_timeout_s,
            warm=warm,
            where=where,
        )

    def _version(self, server: str) -> str:
        path = {"valkey": self.valkey, "postgres": self.postgres, "haproxy": self.haproxy}[server].path
        return f"{path.name.removesuffix('-server')} {self.versions[server]}"

    def _at(self, name: str) -> str:
        return f"{LOOPBACK}:{self.ports[name]}"

    def _all(self, names: Iterable[str]) -> str:
        return " ".join(f":{self.ports[name]}" for name in names)

    def _conf(self, name: str) -> Path:
        return self.home.conf / name


_QUIET = ("--without-gossip", "--without-mingle")
"""Workers that greet one another at their start delay it by a second, and need not."""

# Several probes a second, each two lines at INFO, would bury what matters.
_OBSERVING = ("--loglevel=WARNING", "-P", "threads", "-c", "4", "-Q", "probes,alerts", "--observe")
_RECOVERING = ("--loglevel=INFO", "-P", "prefork", "-c", "2", "-Q", "recovery,backups,tuning")

WARM_MODULES = (
    "celery.bin.celery",
    "celery.apps.beat",
    "celery.apps.worker",
    "celery.concurrency.prefork",
    "celery.concurrency.thread",
    "kombu.transport.redis",
    "workers.app",
    "workers.beat",
    "ha_tasks.monitoring.metrics_collector",
)
"""What the warm processes import; by name, because this layer knows neither Celery nor the workers."""


def _standbys(number: int) -> str:
    words = ("one standby", "two standbys")
    return words[number - 1] if number <= len(words) else f"{number} standbys"


def _python(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, *arguments)


def _celery(*arguments: str) -> tuple[str, ...]:
    return _python("-m", "celery", "-A", "workers.app", *arguments)


def _flower_conf() -> Path:
    """Shipped with the workers, above this package: found, not imported."""
    spec = importlib.util.find_spec("workers")
    for directory in (spec.submodule_search_locations or ()) if spec else ():
        return Path(directory) / "flowerconfig.py"
    raise StartFailed("the package `workers` is not installed: install ha-tasks again")


def _in_thread(work: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        await in_background(work)

    return run


async def _until(ready: Ready) -> None:
    """Raises StartFailed with what is missing."""
    deadline = time.monotonic() + PROOF_TIMEOUT_S
    while True:
        try:
            return await ready()
        except NotReady as missing:
            if time.monotonic() > deadline:
                raise StartFailed(f"after {PROOF_TIMEOUT_S:g} s {missing}") from missing
        await asyncio.sleep(0.1)
