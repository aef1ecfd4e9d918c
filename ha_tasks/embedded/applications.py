"""Starts a drill's application, and places orders with it. Implements ports.faults.Applications."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import time

from ha_tasks.adapters.get_load import GetLoad
from ha_tasks.embedded import state
from ha_tasks.embedded.application import VARIABLE
from ha_tasks.embedded.home import Home
from ha_tasks.embedded.inventory import CLUSTER
from ha_tasks.embedded.live import environment_of
from ha_tasks.embedded.ports import LOOPBACK
from ha_tasks.errors import ServiceUnreachable, UsageError
from ha_tasks.model.load import LoadReport
from ha_tasks.ports.clock import Clock

CLIENTS = 2
PAUSE_S = 0.1
END_TIMEOUT_S = 5.0
LISTENS_WITHIN_S = 30.0


class EmbeddedApplications:
    """See ports/faults.py. The application writes as the demo's own application role."""

    def __init__(self, home: Home, clock: Clock) -> None:
        self._home = home
        self._clock = clock

    def requests(self, service: str) -> ApplicationLoad:
        """Raises UsageError for a service that is not the demo's own cluster."""
        if service != CLUSTER:
            raise UsageError(f"the drill's application writes to {CLUSTER}, not to {service}")
        libpq = state.load(self._home).endpoints["pg_write"].partition("?")[0]
        return ApplicationLoad(
            self._home, libpq.replace("postgresql:", "postgresql+asyncpg:", 1), self._clock
        )


class ApplicationLoad:
    """The application's process and the clients of it. ``start`` and ``stop`` once each."""

    def __init__(self, home: Home, database: str, clock: Clock) -> None:
        self._home = home
        self._database = database
        self._port = _free_port()
        url = f"http://{LOOPBACK}:{self._port}/order"
        self._load = GetLoad(url=url, clock=clock, clients=CLIENTS, pause_s=PAUSE_S)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Raises ServiceUnreachable when no order can be placed within 10 s; ``stop`` is due all the same."""
        module = "ha_tasks.embedded.application"
        with self._home.log_of("application").open("ab") as log:
            # The mark in the environment has it swept up with its stack when the drill is killed.
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, "--port", str(self._port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._home.run,
                env={**environment_of(self._home), VARIABLE: self._database},
            )
        self._await_listening()
        self._load.start()

    def acknowledged(self) -> int:
        """How many so far."""
        return self._load.acknowledged()

    def _await_listening(self) -> None:
        """Python has to import a good deal first, on a machine that is perhaps busy."""
        deadline = time.monotonic() + LISTENS_WITHIN_S
        while not _listens(self._port):
            if time.monotonic() > deadline or (self._process and self._process.poll() is not None):
                raise ServiceUnreachable(
                    f"the drill's application does not come up: see {self._home.log_of('application')}"
                )
            time.sleep(0.05)

    def stop(self) -> LoadReport:
        """Ends the clients, then the application."""
        report = self._load.stop()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(END_TIMEOUT_S)
        return report


def can_run() -> bool:
    """Whether its drivers are installed; they come with the extra ``demo``."""
    return all(importlib.util.find_spec(name) for name in ("asyncpg", "greenlet"))


def _listens(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex((LOOPBACK, port)) == 0


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind((LOOPBACK, 0))
        return int(trial.getsockname()[1])
