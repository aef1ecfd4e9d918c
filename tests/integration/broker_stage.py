"""A broker with a worker on it, for what must hold on every kind of broker."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from celery import Celery

from ha_tasks.adapters.broker_queues import queues_at
from ha_tasks.adapters.dead_letters import dead_letters_at
from ha_tasks.model.message import Message
from ha_tasks.ports.queues import DeadLetter
from ha_tasks.tasks.app import make_app
from ha_tasks.tasks.dispatch import CeleryDispatch

ROOT = Path(__file__).parents[2]


def await_(condition: Callable[[], object], what: str, within_s: float = 15.0) -> None:
    """Waits for a condition, with a deadline."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, f"{what} within {within_s:g} s"
        time.sleep(0.02)


@dataclass
class Stage:
    """``broker`` is a ValkeyServer or a RabbitmqServer."""

    name: str
    broker: Any
    home: Path
    app: Celery = field(init=False)
    dispatch: CeleryDispatch = field(init=False)
    worker: subprocess.Popen[bytes] | None = None
    runs: int = 0

    def __post_init__(self) -> None:
        self.app = make_app(self.broker.secret_url)
        self.dispatch = CeleryDispatch(self.app)
        (self.home / "broker-url").write_text(self.broker.secret_url)

    def send(self, step: str, queue: str = "recovery") -> int:
        """Sends a step of a new run; answers the run's number."""
        self.runs += 1
        kwargs = {"run": self.runs, "step": 1}
        self.dispatch.send(Message(task=f"ha.step.{step}", queue=queue, kwargs=kwargs))
        return self.runs

    def marks(self) -> list[str]:
        """What tasks have left."""
        path = self.home / "marks"
        return path.read_text().split() if path.exists() else []

    def await_done(self, run: int, within_s: float = 15.0) -> None:
        await_(lambda: f"run-{run}" in self.marks(), f"run {run} is done", within_s)

    def dead(self) -> list[DeadLetter]:
        """The newest first."""
        letters = dead_letters_at(self.broker.secret_url)
        try:
            return list(letters.newest(50)[1])
        finally:
            letters.close()

    def waiting(self, queue: str) -> int:
        queues = queues_at(self.broker.secret_url)
        try:
            return queues.backlogs([queue])[queue].waiting
        finally:
            queues.close()

    def start_worker(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "celery", "-A", "tests.integration.broker_app", "worker"]
        options = ["-c", "1", "-Q", "recovery", "--without-gossip", "--without-mingle", *arguments]
        plain = {k: v for k, v in os.environ.items() if not k.startswith("HA_TASKS")}
        with (self.home / "worker.log").open("ab") as log:
            self.worker = subprocess.Popen(
                [*command, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**plain, "HA_TASKS_HOME": str(self.home)},
                cwd=ROOT,
                start_new_session=True,
            )

    def log(self) -> str:
        return (self.home / "worker.log").read_text()

    def end_worker(self) -> None:
        """It and its children, at once. Idempotent."""
        if self.worker is not None:
            os.killpg(self.worker.pid, 9)
            self.worker.wait(10)
        self.worker = None


@contextmanager
def staged(name: str, broker: Any, home: Path) -> Iterator[Stage]:
    """A stage with a prefork worker, as long as the block lasts."""
    stage = Stage(name, broker, home)
    stage.start_worker()
    try:
        yield stage
    finally:
        stage.end_worker()
        stage.dispatch.close()
        stage.app.close()
