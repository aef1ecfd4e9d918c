"""Real servers for tests: on an ephemeral loopback port, in a directory of their own, ended by their pid."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import psycopg

from ha_tasks.embedded.binaries import resolve
from ha_tasks.embedded.unprivileged import choose

QUICK: Mapping[str, str] = MappingProxyType(
    {
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "autovacuum": "off",
        "shared_buffers": "16MB",
        "max_connections": "50",
    }
)
"""Never in a test about lost writes."""


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class PostgresServer:
    """One PostgreSQL server with the superuser ``postgres``, trusted from loopback.

    initialise() -> start() -> ... -> stop(); it may be started again, on the same port.
    """

    def __init__(self, home: Path, settings: Mapping[str, str] = QUICK) -> None:
        self.data = home / "pgdata"
        self.log = home / "postgres.log"
        self.settings = settings
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def initialise(self) -> None:
        """Makes the cluster."""
        options = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        command = self._command("initdb", f"--pgdata={self.data}", *options)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def _command(self, program: str, *arguments: str) -> list[str]:
        return [*choose(os.geteuid()).prefix, str(resolve("postgres").directory / program), *arguments]

    def start(self, timeout_s: float = 20.0) -> None:
        """Returns once it answers. A first port that was taken meanwhile is exchanged for another."""
        deadline = time.monotonic() + timeout_s
        fixed = self.port
        while not self._came_up(fixed or free_port(), deadline):
            assert time.monotonic() < deadline, self.log.read_text()

    def _came_up(self, port: int, deadline: float) -> bool:
        """False when the process ended again before it answered."""
        self.port = port
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", **self.settings}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = self._command("postgres", "-D", str(self.data), "-p", str(port), *options)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while self._process.poll() is None:
            if self.answers():
                return True
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)
        return False

    def answers(self) -> bool:
        """True when it takes a connection."""
        try:
            psycopg.connect(self.dsn(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """Ends it and its children at once, as a crash would. Idempotent."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(timeout=20)
        self._process = None

    def dsn(self, database: str = "postgres") -> str:
        """For psycopg."""
        return f"host=127.0.0.1 port={self.port} user=postgres dbname={database}"

    def url(self, database: str = "postgres") -> str:
        """For SQLAlchemy."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Runs a statement outside of a transaction, or several in one."""
        with psycopg.connect(self.dsn(database), autocommit=True, connect_timeout=2) as connection:
            connection.execute(statement.encode())

    def create_database(self, name: str) -> str:
        """Makes an empty database; answers its URL."""
        self.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)
