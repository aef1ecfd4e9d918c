"""Puts an agent together: takes its state directory, adopts what runs, listens."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from pathlib import Path

from ha_tasks.errors import AlreadyRunning, StartFailed
from workers.agent.commands import DatabaseCommands
from workers.agent.config import AgentConfig
from workers.agent.files import Files
from workers.agent.instance import Instance
from workers.agent.jobs import Jobs
from workers.agent.ledger import Ledger
from workers.agent.memory import Memory
from workers.agent.routes import Routes
from workers.agent.server import AgentServer
from workers.agent.sql import warm_up
from workers.agent.units import Units
from workers.agent.watch import Watch

log = logging.getLogger(__name__)


class Agent:
    """One agent of one host. Raises AlreadyRunning, or StartFailed when its address is taken."""

    def __init__(self, config: AgentConfig) -> None:
        config.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _take(config.state_dir / "lock")
        units = Units(config.units, config.state_dir)
        self._ended = threading.Event()
        database = _database(config, self._ended)
        node = config.postgres.node if config.postgres else ""
        routes = Routes(
            host=config.host,
            node=node,
            database=database,
            units=units,
            files=Files(config.files, config.state_dir, units),
            allow=config.allow,
        )
        try:
            self._server = AgentServer(config.listen, routes=routes, key=config.key)
        except OSError as error:
            os.close(self._lock)
            raise StartFailed(f"cannot listen on {config.listen[0]}:{config.listen[1]}: {error}") from error
        units.autostart()
        if database:
            threading.Thread(target=warm_up, name="warm-up", daemon=True).start()
        log.info("the agent of %s listens on %s:%s", config.host, *self.address)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    def serve(self) -> None:
        """Answers until ``stop`` is called from another thread."""
        try:
            self._server.serve_forever(poll_interval=0.1)
        finally:
            self._server.server_close()
            os.close(self._lock)

    def stop(self) -> None:
        """Ends ``serve``. What the agent started runs on."""
        self._ended.set()
        self._server.shutdown()


def _database(config: AgentConfig, ended: threading.Event) -> DatabaseCommands | None:
    node, state_dir = config.postgres, config.state_dir
    if node is None:
        return None
    ledger = Ledger(state_dir / "ledger.json")
    instance = Instance(node, Memory(state_dir / "node.json"))
    jobs = Jobs(state_dir / "jobs", ledger, timeout_s=node.job_timeout_s)
    if instance.postmaster.adopt():
        log.info("PostgreSQL of %s runs already, pid %s", node.node, instance.postmaster.pid)
    watch = Watch(instance, obeyed=lambda: ledger.highest.epoch, may_fence="fence" in config.allow)
    threading.Thread(target=watch.run, args=(ended,), name="watch", daemon=True).start()
    return DatabaseCommands(instance, ledger, jobs, watch)


def _take(path: Path) -> int:
    """Two agents with one state directory would each believe their own memory."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise AlreadyRunning(f"another agent uses {path.parent}") from error
    return descriptor
