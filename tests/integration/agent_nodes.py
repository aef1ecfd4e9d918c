"""PostgreSQL nodes, each with a host agent of its own, for tests: everything real, on loopback."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ha_tasks.adapters.clock import SystemClock
from ha_tasks.adapters.deadline import Deadline
from ha_tasks.adapters.host_agent import HostAgents
from ha_tasks.adapters.postgres_conf import render_pg_hba, render_postgresql_conf
from ha_tasks.adapters.postgres_session import Login, Row, Session
from ha_tasks.embedded.binaries import resolve
from ha_tasks.embedded.founding import CLUSTER_ROLES, Foundation, scram_verifier, statements
from ha_tasks.embedded.unprivileged import choose, give
from ha_tasks.ports.host import Authority
from workers.agent import processes

KEY = b"a key that only tests may use"
PASSWORD = "only-for-tests"
ROOT = Path(__file__).parents[2]


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [opened.getsockname()[1] for opened in sockets]


def wait_until(holds: Callable[[], object], *, within_s: float = 10.0, what: str = "it") -> None:
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, f"not in {within_s} s: {what}"
        time.sleep(0.02)


class AgentProcess:
    """An agent as a process of its own, as it runs in production."""

    def __init__(self, config: Path, url: str) -> None:
        self._config = config
        self._url = url
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = self._config.with_suffix(".log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "workers.host_agent", "--config", str(self._config)],
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )
        log.close()
        wait_until(self.is_healthy, what=f"the agent of {self._config}")

    def is_healthy(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        try:
            with urllib.request.urlopen(f"{self._url}/health", timeout=1.0) as answer:  # noqa: S310
                return answer.read() == b'{"ok":true}'
        except OSError:
            return False

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        return self._config.with_suffix(".log").read_text()


class Node:
    """One PostgreSQL node and its agent."""

    def __init__(self, home: Path, name: str, ports: Mapping[str, tuple[int, int]]) -> None:
        self.name = name
        self.home = home / name
        self.data = self.home / "data"
        self.port, agent_port = ports[name]
        self.url = f"http://127.0.0.1:{agent_port}"
        self.agent = AgentProcess(self.home / "agent.toml", self.url)
        self._ports = ports
        self._write(agent_port)

    def rows(self, sql: str, *parameters: str, timeout_s: float = 5.0) -> list[Row]:
        login = Login(user="postgres", database="postgres", password=PASSWORD)
        within = Deadline(SystemClock(), timeout_s)
        address = f"127.0.0.1:{self.port}"
        with Session(address, login, within=within, statement_timeout_s=timeout_s) as session:
            return session.query(sql, *parameters, within=within)

    def value(self, sql: str, *parameters: str) -> str | None:
        return self.rows(sql, *parameters)[0][0]

    @property
    def is_standby(self) -> bool:
        return (self.data / "standby.signal").exists()

    def remembered(self) -> str:
        """What its agent has on its disk about it."""
        path = self.home / "state" / "node.json"
        return path.read_text() if path.exists() else ""

    def postmaster(self) -> int:
        return int((self.data / "postmaster.pid").read_text().splitlines()[0])

    def tree(self) -> frozenset[int]:
        return processes.holders(self.data)

    def initdb(self) -> None:
        password_file = self.home / "password"
        command = [str(_bin_dir() / "initdb"), "-D", str(self.data), "-U", "postgres", "-A", "scram-sha-256"]
        subprocess.run(
            [*choose(os.geteuid()).prefix, *command, f"--pwfile={password_file}", "--no-sync"],
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=60,
        )
        self._make_roles()

    def _make_roles(self) -> None:
        """The shipped ones: agents work with no more rights than these."""
        passwords = dict.fromkeys(("ha_agent", "ha_repl"), PASSWORD)
        logins = [f"ALTER ROLE {r} PASSWORD '{scram_verifier(p)}'" for r, p in passwords.items()]
        foundation = Foundation(
            bin_dir=_bin_dir(),
            way=choose(os.geteuid()),
            passwords=passwords,
            database="",
            owner="",
            log=self.home / "founding.log",
        )
        foundation.apply(self.data, "postgres", [*statements(CLUSTER_ROLES), *logins])

    def destroy(self) -> None:
        self.agent.kill()
        processes.kill_holders(self.data, timeout_s=5.0)

    def _write(self, agent_port: int) -> None:
        conf = self.home / "conf"
        conf.mkdir(parents=True)
        give(conf, choose(os.geteuid()))
        (conf / "postgresql.conf").write_text(
            render_postgresql_conf(node=self.name, port=self.port, data_dir=self.data, conf_dir=conf)
        )
        (conf / "pg_hba.conf").write_text(render_pg_hba())
        (conf / "pg_ident.conf").write_text("")
        for name, text in {"key": KEY.decode(), "password": PASSWORD, "passfile": _passfile()}.items():
            (self.home / name).write_text(text + "\n")
            (self.home / name).chmod(0o600)
        (self.home / "agent.toml").write_text(self._toml(agent_port))

    def _toml(self, agent_port: int) -> str:
        run_as = ", ".join(f'"{word}"' for word in choose(os.geteuid()).prefix)
        peers = [f'{n} = "127.0.0.1:{p}"' for n, (p, _) in self._ports.items() if n != self.name]
        return "\n".join(
            [
                "schema = 1",
                f'host = "{self.name}"',
                f'listen = "127.0.0.1:{agent_port}"',
                'key = { file = "key" }',
                'state_dir = "state"',
                f"run_as = [{run_as}]",
                "[postgres]",
                f'node = "{self.name}"',
                f'bin_dir = "{_bin_dir()}"',
                'data_dir = "data"',
                'conf_dir = "conf"',
                f'address = "127.0.0.1:{self.port}"',
                'user = "ha_agent"',
                'password = { file = "password" }',
                'replication_user = "ha_repl"',
                'passfile = "passfile"',
                "[postgres.peers]",
                *peers,
            ]
        )


class Nodes:
    """Some nodes, the first of them initialized and running as primary with the first authority."""

    def __init__(self, home: Path, *names: str) -> None:
        ports = free_ports(2 * len(names))
        pairs = dict(zip(names, zip(ports[::2], ports[1::2], strict=True), strict=True))
        self.nodes = {name: Node(home, name, pairs) for name in names}
        urls = {name: node.url for name, node in self.nodes.items()}
        self.agents = HostAgents(urls=urls, hosts={name: name for name in names}, key=KEY)
        self.by = Authority(epoch=1, fence=1)

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def start(self) -> None:
        first = next(iter(self.nodes.values()))
        first.initdb()
        for node in self.nodes.values():
            node.agent.start()
        self.agents.start_primary(first.name, "", self.by)

    def next_epoch(self) -> Authority:
        self.by = Authority(epoch=self.by.epoch + 1, fence=self.by.fence + 1)
        return self.by

    def destroy(self) -> None:
        for node in self.nodes.values():
            node.destroy()


@contextlib.contextmanager
def nodes(home: Path, *names: str) -> Iterator[Nodes]:
    made = Nodes(home, *names)
    try:
        made.start()
        yield made
    finally:
        made.destroy()


def thaw(pid: int) -> None:
    processes.send(pid, signal.SIGCONT)


def _bin_dir() -> Path:
    return resolve("postgres").directory


def _passfile() -> str:
    return "\n".join(f"127.0.0.1:*:*:{user}:{PASSWORD}" for user in ("ha_agent", "ha_repl"))


@contextlib.contextmanager
def unit_agent(home: Path, *, host: str, unit: str, more: str = "") -> Iterator[HostAgents]:
    """An agent without PostgreSQL that runs one unit, a process that only waits."""
    process, agents = unit_agent_process(home, host=host, unit=unit, more=more)
    try:
        process.start()
        yield agents
    finally:
        process.kill()
        end_units(home)


def unit_agent_process(
    home: Path, *, host: str, unit: str, more: str = ""
) -> tuple[AgentProcess, HostAgents]:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    (home / "key").write_text(KEY.decode())
    command = f'["{sys.executable}", "-c", "import time; time.sleep(600)"]'
    lines = [
        "schema = 1",
        f'host = "{host}"',
        f'listen = "{url.removeprefix("http://")}"',
        'key = { file = "key" }',
        'state_dir = "state"',
        f"[units.{unit}]",
        f"command = {command}",
        f'log = "{unit}.log"',
        more,
    ]
    (home / "agent.toml").write_text("\n".join(lines))
    return AgentProcess(home / "agent.toml", url), HostAgents(urls={host: url}, hosts={}, key=KEY)


def end_units(home: Path) -> None:
    for pid in processes.with_environment({"HA_TASKS_UNIT_STATE": str(home / "state")}):
        processes.send(pid, signal.SIGKILL)
