"""What disturbs a platform without any server being down. Each lasts some seconds, and ends with its call."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from shutil import which

import psutil
import psycopg

from tests.acceptance.stack import Stack
from tests.servers import PostgresServer

PAUSED_S = 10.0
LASTS_S = 15.0
"""Of what has no length of its own. Longer than any evidence waits (10 s, E5)."""
LOST = "0.03"
"""Of all packets."""
AWAY_S = 5.0
"""How long the store and the broker are down."""

Disturbance = Callable[[Stack, PostgresServer], None]


def packets_lost(stack: Stack, _: PostgresServer) -> None:
    """3 % of all that goes to or from the ports of the platform and of its agents, on the loopback device."""
    ports = sorted(set(_ports(stack)))
    rules = [
        (direction, port)
        for at in range(0, len(ports), 15)  # as many as `multiport` takes
        for direction in ("--dports", "--sports")
        for port in [",".join(map(str, ports[at : at + 15]))]
    ]
    with ExitStack() as undo:
        for direction, some in rules:
            words = ["INPUT", "-i", "lo", "-p", "tcp", "-m", "multiport", direction, some]
            words += ["-m", "statistic", "--mode", "random", "--probability", LOST, "-j", "DROP"]
            _iptables("-I", *words)
            undo.callback(_iptables, "-D", *words)
        time.sleep(LASTS_S)
        assert _dropped() > 0, "no packet was lost: the rules match nothing"


def agent_killed(stack: Stack, _: PostgresServer) -> None:
    """Of the primary's host; its supervisor starts it again."""
    os.kill(_must(stack, f"agent-{_primary(stack)}"), signal.SIGKILL)
    time.sleep(LASTS_S)


def agent_paused(stack: Stack, _: PostgresServer) -> None:
    """Of the primary's host."""
    _pause(_must(stack, f"agent-{_primary(stack)}"))


def worker_paused(stack: Stack, _: PostgresServer) -> None:
    """The one that looks, with all its children; it must discard what it believed before."""
    _pause(_must(stack, "probe-a"))


def cores_saturated(_: Stack, __: PostgresServer) -> None:
    """Two busy processes for each core."""
    busy = [sys.executable, "-c", "while True: pass"]
    hogs = [subprocess.Popen(busy) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        time.sleep(LASTS_S)
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def broker_restarted(stack: Stack, _: PostgresServer) -> None:
    """Killed; its supervisor starts it again."""
    os.kill(_must(stack, "broker"), signal.SIGKILL)
    time.sleep(LASTS_S)


def store_restarted(_: Stack, server: PostgresServer) -> None:
    """Away for some seconds."""
    server.stop()
    try:
        time.sleep(AWAY_S)
    finally:
        server.start()
    time.sleep(LASTS_S - AWAY_S)


def connections_exhausted(stack: Stack, _: PostgresServer) -> None:
    """An application takes every connection of the primary that is to be had, and keeps them."""
    node = stack.state["nodes"][_primary(stack)]
    taken: list[psycopg.Connection] = []
    try:
        ends = time.monotonic() + LASTS_S
        while time.monotonic() < ends:
            with suppress(psycopg.OperationalError):
                while True:
                    taken.append(psycopg.connect(node["dsn"]))
            time.sleep(0.2)
        assert taken
    finally:
        for connection in taken:
            connection.close()


DISTURBANCES: dict[str, Disturbance] = {
    "3 % of packets lost": packets_lost,
    "agent killed": agent_killed,
    f"agent paused {PAUSED_S:.0f} s": agent_paused,
    "cores saturated": cores_saturated,
    "broker restarted": broker_restarted,
    f"worker paused {PAUSED_S:.0f} s": worker_paused,
    "store restarted": store_restarted,
    "connections exhausted": connections_exhausted,
}


def can_lose_packets() -> bool:
    """Only root may, where iptables is installed."""
    return os.geteuid() == 0 and which("iptables") is not None


def _iptables(*words: str) -> None:
    _asked_iptables(*words)


def _dropped() -> int:
    """How many packets the rules of INPUT have dropped."""
    lines = (line.split() for line in _asked_iptables("-L", "INPUT", "-v", "-n", "-x").splitlines())
    return sum(int(words[0]) for words in lines if len(words) > 2 and words[2] == "DROP")


def _asked_iptables(*words: str) -> str:
    command = [which("iptables") or "iptables", "-w", "5", *words]
    return subprocess.run(command, check=True, timeout=10, capture_output=True, text=True).stdout


def _ports(stack: Stack) -> Iterator[int]:
    """Every TCP port that the stack listens on: of its processes, of what its agents started."""
    for record in stack.state["processes"]:
        with suppress(psutil.NoSuchProcess):
            for process in (family := psutil.Process(record["pid"])), *family.children(recursive=True):
                for connection in process.net_connections("tcp"):
                    if connection.status == psutil.CONN_LISTEN:
                        yield connection.laddr.port


def _primary(stack: Stack) -> str:
    """By the server that takes the writes, through the balancer."""
    with psycopg.connect(stack.state["endpoints"]["pg_write"]) as connection:
        found = connection.execute("SELECT current_setting('cluster_name')").fetchone()
    assert found
    return str(found[0])


def _must(stack: Stack, name: str) -> int:
    pid = stack.pid(name)
    assert pid is not None, f"{name} does not run: {Path(stack.home).name}"
    return pid


def _pause(pid: int) -> None:
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    own = [p for p in family if "postgres" not in p.name()]
    for process in own:
        process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(PAUSED_S)
    finally:
        for process in own:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
    time.sleep(LASTS_S - PAUSED_S)
