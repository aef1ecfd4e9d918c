"""A real pgbouncer for tests, in transaction mode, unprivileged, on an ephemeral loopback port."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg

from ha_tasks.embedded.unprivileged import choose, give
from tests.servers import free_port

PROGRAM = "/usr/sbin/pgbouncer"
ADMIN = "ha_pooler"
ADMIN_PASSWORD = "admin of this test's pooler"
_CONFIGURATION = """
[databases]
app = host=127.0.0.1 port={upstream} dbname=app
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
admin_users = {admin}
pool_mode = transaction
ignore_startup_parameters = options
default_pool_size = 20
server_login_retry = 0.2
logfile = {log}
"""


class PgbouncerServer:
    """``upstream``: port to which its database ``app`` leads; ``users``: name -> password of clients."""

    def __init__(
        self, home: Path, *, upstream: int, users: Mapping[str, str], port: int | None = None
    ) -> None:
        self.port = port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._home, self._way = home, choose(os.geteuid())
        self._log = home / "pgbouncer.log"
        home.mkdir(exist_ok=True)
        give(home, self._way)
        known = {**users, ADMIN: ADMIN_PASSWORD}
        self._write("users", "".join(f'"{name}" "{password}"\n' for name, password in known.items()))
        paths = {"users": home / "users", "log": self._log}
        text = _CONFIGURATION.format(upstream=upstream, port=self.port, admin=ADMIN, **paths)
        self._file = self._write("pgbouncer.ini", text)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once its console answers."""
        self._process = subprocess.Popen(
            [*self._way.prefix, PROGRAM, "--quiet", str(self._file)],
            cwd=self._home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while not self._answers():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def stop(self) -> None:
        """Idempotent."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)
        self._process = None

    def console(self, command: str) -> list[tuple[object, ...]]:
        """What its admin console answers."""
        dsn = f"host=127.0.0.1 port={self.port} user={ADMIN} dbname=pgbouncer connect_timeout=2"
        with psycopg.connect(dsn, password=ADMIN_PASSWORD, autocommit=True) as connection:
            cursor = psycopg.ClientCursor(connection).execute(command)
            return cursor.fetchall() if cursor.description else []

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else "it said nothing"

    def _answers(self) -> bool:
        try:
            return bool(self.console("SHOW VERSION"))
        except psycopg.Error:
            return False

    def _write(self, name: str, text: str) -> Path:
        path = self._home / name
        path.write_text(text)
        path.chmod(0o600)
        give(path, self._way)
        return path


@contextmanager
def pgbouncer(
    home: Path, *, upstream: int, users: Mapping[str, str], port: int | None = None
) -> Iterator[PgbouncerServer]:
    """Running, and gone afterwards."""
    server = PgbouncerServer(home, upstream=upstream, users=users, port=port)
    server.start()
    try:
        yield server
    finally:
        server.stop()
