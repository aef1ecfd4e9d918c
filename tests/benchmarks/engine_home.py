"""A home, a broker, a store and workers for measuring the engine, and what is measured there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from celery import Celery, chain
from sqlalchemy import func, select

from ha_tasks.bootstrap import assemble, load_inventory
from ha_tasks.model.playbook import PlannedStep, UndoPolicy
from ha_tasks.names import Queue
from ha_tasks.store import Store
from ha_tasks.store.tables import attempt, run
from ha_tasks.tasks.app import make_app
from ha_tasks.tasks.dispatch import CeleryDispatch
from tests.benchmarks.engine_app import ENTRY_POINTS, NOOP, PLAIN
from tests.plans import new_run, plan_of
from tests.valkey_server import PASSWORD, ValkeyServer

ROOT = Path(__file__).resolve().parents[2]
STEPS = 5
PROCESSES = 2
AT_ONCE = 100
"""So many messages at most stand in the broker."""
BATCH = 10
PROVIDER = "bench 1.0"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Of one round. ``steps_s``: how long each step took, from its claim to its settlement."""

    total_s: float
    steps_s: tuple[float, ...] = ()


class Engine:
    """The real one: workers as processes, runs by way of the journal, messages by way of the broker."""

    def __init__(self, home: Path, broker: ValkeyServer, store_url: str) -> None:
        self.home, self.broker = home, broker
        _write(home, broker.url, store_url)
        self.environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith("HA_TASKS")},
            "HA_TASKS_HOME": str(home),
            "HA_TASKS_PROCESS": "bench",
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(home / "site"))),
        }
        self.inventory = load_inventory(home, self.environ)
        self.app: Celery = make_app(self.inventory.broker_url())
        self.system = assemble(self.inventory, dispatch=CeleryDispatch(self.app), environ=self.environ)
        self.system.store.migrate()
        self.system.apply("bench", "to be measured")
        self._made = 0
        self._room = 0

    @contextmanager
    def working(self) -> Iterator[None]:
        """Workers run as long as the block."""
        command = [sys.executable, "-m", "celery", "-A", "tests.benchmarks.engine_app", "worker"]
        options = ("-P", "prefork", "-c", str(PROCESSES), "-Q", "recovery", "-l", "WARNING")
        log = (self.home / "worker.log").open("ab")
        worker = subprocess.Popen(
            [*command, *options, "--without-gossip", "--without-mingle"],
            cwd=ROOT, env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            self.chains(2)
            self.runs(2)
            yield
        finally:
            self.system.store.dispose()
            worker.send_signal(signal.SIGTERM)
            worker.wait(30)
            log.close()

    def chains(self, number: int) -> Measured:
        """So many plain chains of no-op tasks; their end is an empty broker."""
        step = self.app.signature(PLAIN, immutable=True, options={"queue": str(Queue.RECOVERY)})
        began = time.perf_counter()
        for _ in range(number):
            self._await_room()
            chain(*[step] * STEPS, app=self.app).apply_async()
        self._drained(began)
        return Measured(total_s=time.perf_counter() - began)

    def runs(self, number: int) -> Measured:
        """So many runs of no-op steps; all must have succeeded."""
        known = self._made
        began = time.perf_counter()
        for _ in range(number):
            self._await_room()
            self._begin()
        self._drained(began)
        total_s = time.perf_counter() - began
        ended = self._ended(known)
        assert ended == {"succeeded": number}, f"{ended} {self.log()}"
        return Measured(total_s=total_s, steps_s=self._steps_s(known))

    def _begin(self) -> None:
        self._made += 1
        step = PlannedStep(
            no=1, id="step-1", action=NOOP, args={}, undo=UndoPolicy.RUN, timeout_s=15.0, attempts=2,
            point_of_no_return=False, provider=PROVIDER,
        )  # fmt: skip
        steps = tuple(replace(step, no=no, id=f"step-{no}") for no in range(1, STEPS + 1))
        plan = plan_of(*steps, scope=f"web/{self._made}")
        _, message = self.system.store.journal.create(
            new_run(plan, key=f"bench-{self._made}"), self.system.clock.now()
        )
        assert message is not None
        self.system.orchestrator.send(message)

    def _await_room(self) -> None:
        """Not all at once: a message that waits for ten seconds expires, and the sweeper sends another."""
        if self._room:
            self._room -= 1
            return
        ends = time.monotonic() + 60
        with self.broker.client() as client:
            while client.llen(str(Queue.RECOVERY)) > AT_ONCE - BATCH:
                assert time.monotonic() < ends, self.log()
                time.sleep(0.005)
        self._room = BATCH - 1

    def _drained(self, began: float) -> None:
        """Nothing waits in the broker, and nothing is being worked on."""
        with self.broker.client() as client:
            while client.llen(str(Queue.RECOVERY)) or client.hlen("unacked.fast"):
                assert time.perf_counter() - began < 600, self.log()
                time.sleep(0.01)

    def _ended(self, after: int) -> Mapping[str, int]:
        query = select(run.c.state, func.count()).where(run.c.id > after).group_by(run.c.state)
        with self.system.store._database.reading() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def _steps_s(self, after: int) -> tuple[float, ...]:
        query = select(attempt.c.started_at, attempt.c.ended_at).where(attempt.c.run > after)
        with self.system.store._database.reading() as connection:
            return tuple((end - start).total_seconds() for start, end in connection.execute(query))

    def log(self) -> str:
        return (self.home / "worker.log").read_text()[-4000:]


def _write(home: Path, broker_url: str, store_url: str) -> None:
    """The inventory, its secret, and a package that offers the action."""
    (home / "ha-tasks.toml").write_text(
        f'''schema = 1
[platform]
name = "bench"
[store]
url = "{store_url}"
[broker]
url = "{broker_url}"
password = {{ file = "secrets/broker" }}
[services.web]
kind = "http"
[[services.web.instances]]
name = "web1"
address = "127.0.0.1:1"
'''
    )
    (home / "secrets").mkdir()
    (home / "secrets/broker").write_text(PASSWORD)
    (home / "secrets/broker").chmod(0o600)
    package = home / "site" / "bench-1.0.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: bench\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(ENTRY_POINTS)


__all__ = ["Engine", "Measured", "Store"]
