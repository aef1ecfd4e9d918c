"""A real Valkey for tests: on an ephemeral loopback port, with a password, ended by its pid."""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from ha_tasks.embedded.binaries import resolve
from ha_tasks.embedded.valkey import CONTROL_USER, REQUEST_USER, users
from tests.servers import free_port

PASSWORD = "pass-for-this-test-only"
HASHES = dict.fromkeys((CONTROL_USER, REQUEST_USER), hashlib.sha256(PASSWORD.encode()).hexdigest())


@dataclass
class ValkeyServer:
    """It may be stopped and started again, on the same port; it keeps nothing, unless it is ``durable``."""

    home: Path
    durable: bool = False
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Without the password."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def secret_url(self) -> str:
        """With the password."""
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        return redis.Redis(host="127.0.0.1", port=self.port, password=PASSWORD)

    def start(self, within_s: float = 5.0) -> None:
        self.port = self.port or free_port()
        config = self.home / "valkey.conf"
        config.write_text(
            f'bind 127.0.0.1\nport {self.port}\nsave ""\ndir "{self.home}"\nrequirepass {PASSWORD}\n'
            f"appendonly {'yes' if self.durable else 'no'}\nmaxmemory-policy noeviction\n"
            # The shipped users, too; but whoever names none may do everything here.
            + "".join(f"{line}\n" for line in users(HASHES) if not line.startswith("user default"))
        )
        command = [str(resolve("valkey").path), str(config)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + within_s
        while not self.answers():
            assert time.monotonic() < deadline, "valkey did not come up"
            time.sleep(0.02)

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.exceptions.BusyLoadingError):
            return False

    def stop(self) -> None:
        """Idempotent."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(5)
        self.process = None


@contextmanager
def valkey_server(home: Path, *, durable: bool = False) -> Iterator[ValkeyServer]:
    """A server that runs as long as the block."""
    server = ValkeyServer(home, durable=durable)
    try:
        server.start()
        yield server
    finally:
        server.stop()
