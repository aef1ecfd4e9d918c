"""Real Sentinels for tests: on ephemeral loopback ports, ended by their pids."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import redis

from ha_tasks.embedded.binaries import resolve
from tests.servers import free_port
from tests.valkey_server import PASSWORD

NAME = "main"
SENTINEL_PASSWORD = "of the sentinels only"


Running: TypeAlias = dict[int, "subprocess.Popen[bytes]"]
"""Port -> process."""


@contextmanager
def running_sentinels(home: Path, primary_port: int, *, count: int = 3) -> Iterator[Running]:
    """They watch the server at that port, and know one another."""
    running: Running = {}
    program = str(resolve("valkey").path)
    try:
        for number in range(count):
            port, config = free_port(), home / f"sentinel{number}.conf"
            config.write_text(
                f'bind 127.0.0.1\nport {port}\ndir "{home}"\nrequirepass "{SENTINEL_PASSWORD}"\n'
                f'sentinel sentinel-pass "{SENTINEL_PASSWORD}"\n'
                f"sentinel monitor {NAME} 127.0.0.1 {primary_port} {count // 2 + 1}\n"
                f"sentinel auth-pass {NAME} {PASSWORD}\n"
                f"sentinel down-after-milliseconds {NAME} 500\nsentinel failover-timeout {NAME} 5000\n"
            )
            command = [program, str(config), "--sentinel"]
            running[port] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for port in running:
            _await_others(port, count - 1)
        yield running
    finally:
        for process in running.values():
            process.kill()
            process.wait(5)


def _await_others(port: int, others: int) -> None:
    deadline = time.monotonic() + 15
    with redis.Redis(host="127.0.0.1", port=port, password=SENTINEL_PASSWORD, protocol=2) as client:
        while True:
            try:
                said = client.execute_command("SENTINEL", "MASTER", NAME)
                known = dict(zip(said[::2], said[1::2], strict=True))
                if int(known[b"num-other-sentinels"]) >= others and int(known[b"num-slaves"]) >= 1:
                    return
            except redis.ConnectionError:
                pass
            assert time.monotonic() < deadline, "the Sentinels did not find one another"
            time.sleep(0.05)
