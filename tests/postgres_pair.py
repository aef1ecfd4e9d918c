"""A real PostgreSQL primary ``pg1`` and its streaming standby ``pg2``, for tests."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg

from ha_tasks.embedded.binaries import resolve
from ha_tasks.embedded.founding import CLUSTER_ROLES, DATABASE_RIGHTS, statements
from ha_tasks.embedded.unprivileged import choose
from ha_tasks.model.platform import (
    Check,
    Instance,
    Platform,
    PostgresSettings,
    Role,
    Routing,
    Service,
    ServiceKind,
)
from tests.servers import QUICK, PostgresServer

PASSWORD = "only for this test"
USER = "ha_control"
_HBA = """
host all         postgres   127.0.0.1/32 trust
host replication ha_repl    127.0.0.1/32 trust
host all         all        127.0.0.1/32 scram-sha-256
"""
_SETTINGS = {**QUICK, "synchronous_commit": "on"}
"""What is committed is flushed, as the flush positions say that it is."""


def password(service: Service) -> str:
    return PASSWORD


class PostgresPair:
    """``service`` has pg1 and pg2, and pg1 as its entry."""

    def __init__(self, home: Path, settings: Mapping[str, str] = _SETTINGS) -> None:
        self.primary = PostgresServer(_made(home / "pg1"), {**settings, "cluster_name": "pg1"})
        self.standby = PostgresServer(_made(home / "pg2"), {**settings, "cluster_name": "pg2"})

    def start(self) -> None:
        """Returns once the standby streams."""
        self.primary.initialise()
        (self.primary.data / "pg_hba.conf").write_text(_HBA)
        self.primary.start()
        for statement in statements(CLUSTER_ROLES):
            self.primary.execute(statement)
        self.primary.execute(f"ALTER ROLE {USER} PASSWORD '{PASSWORD}'")
        self.primary.execute("CREATE DATABASE app")
        for statement in statements(DATABASE_RIGHTS):
            self.primary.execute(statement, "app")
        self._copy()
        self.standby.start()
        self.await_streaming()

    def _copy(self) -> None:
        upstream = f"host=127.0.0.1 port={self.primary.port} user=ha_repl application_name=pg2"
        program = str(resolve("postgres").directory / "pg_basebackup")
        options = ["--pgdata", str(self.standby.data), "--dbname", upstream]
        quick = ["--checkpoint", "fast", "--no-sync", "--write-recovery-conf"]
        command = [*choose(os.geteuid()).prefix, program, *options, *quick]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr

    def await_streaming(self, timeout_s: float = 15.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not self._streams():
            assert time.monotonic() < deadline, self.standby.log.read_text()
            time.sleep(0.02)

    def _streams(self) -> bool:
        with psycopg.connect(self.primary.dsn(), connect_timeout=2) as connection:
            found = connection.execute("SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'")
            return found.fetchone() is not None

    def stop(self) -> None:
        self.standby.stop()
        self.primary.stop()

    @property
    def service(self) -> Service:
        ports = {"pg1": self.primary.port, "pg2": self.standby.port}
        return Service(
            name="db",
            kind=ServiceKind.POSTGRES,
            instances=tuple(
                Instance(name=n, service="db", host=n, address=f"127.0.0.1:{port}", role=Role.NODE)
                for n, port in ports.items()
            ),
            check=Check(timeout_s=0.5),
            postgres=PostgresSettings(database="app", user=USER),
            routing=Routing(backend="pg_write", entry=f"127.0.0.1:{self.primary.port}"),
        )

    @property
    def platform(self) -> Platform:
        return Platform(name="test", services={"db": self.service}, hosts={}, balancers={})


@contextmanager
def running_pair(home: Path, settings: Mapping[str, str] = _SETTINGS) -> Iterator[PostgresPair]:
    """Both, streaming, and gone afterwards."""
    pair = PostgresPair(home, settings)
    try:
        pair.start()
        yield pair
    finally:
        pair.stop()


def _made(path: Path) -> Path:
    path.mkdir(parents=True)
    return path
