"""Real processes, really broken: ``python -m tests.benchmarks.detector.real FILE``.

Web servers on loopback are probed by three observers, each a process of its own. In each round every server
gets either a failure (kill -9, or SIGSTOP, for five seconds) or an innocent disturbance (a restart, a freeze
of half a second, an observer that is paused). What was seen and what was done goes into FILE, for
``ha-tasks detector replay FILE --set restart_s=1.5``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ha_tasks.adapters.clock import SystemClock
from ha_tasks.adapters.http_probe import HttpProber
from ha_tasks.model.platform import Check, Instance, Role, Service, ServiceKind
from ha_tasks.model.probe import ProbeOutcome
from ha_tasks.recovery.probe_recording import written
from tests.servers import free_port

ROUND_S = 18.0
"""A failure, and the time after which its alarm has ended."""
DOWN_S = 5.0
SERVER = (
    "import http.server, socketserver, sys\n"
    "class H(http.server.BaseHTTPRequestHandler):\n"
    "    def do_GET(self):\n"
    "        self.send_response(200); self.send_header('Content-Length', '0'); self.end_headers()\n"
    "    def log_message(self, *a): pass\n"
    "class S(socketserver.ThreadingMixIn, http.server.HTTPServer): daemon_threads = True\n"
    "S(('127.0.0.1', int(sys.argv[1])), H).serve_forever()\n"
)


@dataclass(slots=True)
class Server:
    """One web server."""

    name: str
    port: int
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        """Returns at once; it answers a moment later."""
        self.process = subprocess.Popen([sys.executable, "-I", "-S", "-c", SERVER, str(self.port)])

    def end(self) -> None:
        """By kill -9; waits for it."""
        self.process.kill()
        self.process.wait()

    def send(self, number: signal.Signals) -> None:
        """A signal to it."""
        self.process.send_signal(number)


def service_of(servers: Sequence[Server]) -> Service:
    """As the inventory would have it."""
    return Service(
        name="web",
        kind=ServiceKind.HTTP,
        check=Check(),
        instances=tuple(
            Instance(name=s.name, service="web", host="here", address=f"127.0.0.1:{s.port}", role=Role.ACTIVE)
            for s in servers
        ),
    )


def observe(number: int, service: Service, until: float, found: multiprocessing.Queue[object]) -> None:
    """One observer: looks on its own schedule until then, and hands over what it saw."""
    clock = SystemClock()
    prober = HttpProber(vantage=f"h{number}/probe", clock=clock)
    seen: list[ProbeOutcome] = []
    due = time.monotonic() + number * service.check.interval_s / 3
    while time.time() < until:
        clock.pause(max(0.0, due - time.monotonic()))
        seen += prober.probe(service, service.instances)
        due = max(due + service.check.interval_s, time.monotonic())
    found.put(seen)


def kill(server: Server) -> None:
    """Dead for a while."""
    server.end()
    time.sleep(DOWN_S)
    server.start()


def freeze(server: Server, seconds: float = DOWN_S) -> None:
    """Hangs for a while."""
    server.send(signal.SIGSTOP)
    time.sleep(seconds)
    server.send(signal.SIGCONT)


def restart(server: Server) -> None:
    """As a supervisor would."""
    server.end()
    server.start()


def hiccup(server: Server) -> None:
    """As a collection of garbage would."""
    freeze(server, 0.5)


FAULTS = {"kill -9": kill, "SIGSTOP": freeze}
INNOCENT = {"restart": restart, "frozen for 0.5 s": hiccup}


def disturb(server: Server, number: int, seed: int, truths: list[dict[str, str]], counts: list[str]) -> None:
    """One round of one server; truth is written for what is a failure."""
    dice = random.Random(f"{seed} {server.name} {number}")
    time.sleep(dice.uniform(0, 3))
    faulty = (number + int(server.name[3:])) % 2 == 0
    why, deed = dice.choice(sorted((FAULTS if faulty else INNOCENT).items()))
    begin = datetime.now(UTC)
    deed(server)
    counts.append(why)
    if faulty:
        told = {"from": begin.isoformat(), "until": datetime.now(UTC).isoformat(), "why": why}
        truths.append({"service": "web", "instance": server.name, **told})


def pause(observer: int, seconds: float) -> None:
    """By its process id; what it missed is not made up."""
    os.kill(observer, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(observer, signal.SIGCONT)


def trial(
    servers: Sequence[Server], rounds: int, seed: int
) -> tuple[list[ProbeOutcome], list[str], list[str]]:
    """Outcomes, lines of truth, and what was done."""
    service = service_of(servers)
    begin = time.time() + 3
    end = begin + rounds * ROUND_S
    context = multiprocessing.get_context("spawn")
    found: multiprocessing.Queue[list[ProbeOutcome]] = context.Queue()
    observers = [
        context.Process(target=observe, args=(n, service, end, found), daemon=True) for n in range(3)
    ]
    for observer in observers:
        observer.start()
    pids = [observer.pid for observer in observers if observer.pid is not None]
    truths: list[dict[str, str]] = []
    counts: list[str] = []
    dice = random.Random(seed)
    for number in range(rounds):
        time.sleep(max(0.0, begin + number * ROUND_S - time.time()))
        work = [threading.Thread(target=disturb, args=(s, number, seed, truths, counts)) for s in servers]
        for thread in work:
            thread.start()
        time.sleep(9)
        pause(dice.choice(pids), dice.uniform(1, 3))
        for thread in work:
            thread.join()
    outcomes = [o for _ in observers for o in found.get(timeout=60)]
    for observer in observers:
        observer.join()
    return outcomes, [json.dumps({"truth": t}) for t in truths or [{"service": "web"}]], counts


def main(arguments: Sequence[str]) -> int:
    """Writes the file and says what was done. Exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.detector.real", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--servers", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(arguments)
    servers = [Server(f"web{n}", free_port()) for n in range(asked.servers)]
    try:
        for each in servers:
            each.start()
        outcomes, truths, counts = trial(servers, asked.rounds, asked.seed)
    finally:
        for each in servers:
            each.end()
    lines = [*written(service_of(servers), outcomes), *truths]
    asked.file.write_text("\n".join(lines) + "\n", "utf-8")
    done = ", ".join(f"{counts.count(why)} x {why}" for why in sorted(set(counts)))
    print(f"{len(outcomes)} probes in {asked.file}; {done}; {asked.rounds} x an observer paused")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
