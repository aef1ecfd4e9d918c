"""A real HAProxy for tests: a web backend and a PostgreSQL write backend, on ephemeral loopback ports."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from ha_tasks.adapters.haproxy import HaproxyControl
from ha_tasks.embedded.binaries import resolve
from ha_tasks.errors import BalancerUnreachable, MissingBinary
from tests.servers import free_port

_CONFIGURATION = """
global
  stats socket 127.0.0.1:{api} level admin
  stats socket {unix} level admin
defaults
  timeout connect 500ms
  timeout client 10s
  timeout server 10s
  retries 0
frontend web
  mode http
  bind 127.0.0.1:{web}
  default_backend web
backend web
  mode http
{web_servers}
frontend pg_write
  mode tcp
  bind 127.0.0.1:{pg_write}
  default_backend pg_write
backend pg_write
  mode tcp
{pg_servers}
"""


class HaproxyServer:
    """``web`` and ``nodes``: server name -> port; the second and later nodes start in maintenance."""

    def __init__(self, home: Path, *, web: Mapping[str, int], nodes: Mapping[str, int]) -> None:
        self.ports = {name: free_port() for name in ("api", "web", "pg_write")}
        self.socket = f"tcp://127.0.0.1:{self.ports['api']}"
        self.unix_socket = f"unix://{home}/api.sock"
        self._file = home / "haproxy.cfg"
        self._log = home / "haproxy.log"
        self._process: subprocess.Popen[bytes] | None = None
        checked = [f"  server {name} 127.0.0.1:{port} check inter 100ms" for name, port in web.items()]
        first = next(iter(nodes))
        states = {name: "" if name == first else " disabled" for name in nodes}
        plain = [f"  server {name} 127.0.0.1:{port}{states[name]}" for name, port in nodes.items()]
        servers = {"web_servers": "\n".join(checked), "pg_servers": "\n".join(plain)}
        text = _CONFIGURATION.format(unix=home / "api.sock", **self.ports, **servers)
        self._file.write_text(text)

    def start(self) -> None:
        """Returns once its runtime API answers."""
        try:
            program = resolve("haproxy").path
        except MissingBinary as error:
            pytest.skip(str(error))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(program), "-f", str(self._file), "-db"], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 10
        while not self._answers():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.01)

    def stop(self) -> None:
        """Idempotent."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=10)
        self._process = None

    def freeze(self) -> None:
        """The kernel goes on taking connections for it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        # The signal is sent, not yet obeyed: an answer that was under way would still come.
        deadline = time.monotonic() + 5
        while Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < deadline, "HAProxy does not stop"
            time.sleep(0.005)

    def _answers(self) -> bool:
        try:
            HaproxyControl(self.socket).servers()
        except BalancerUnreachable:
            return False
        return True


class Greeter:
    """A TCP server that greets each client with its name and then keeps the session."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._kept: list[socket.socket] = []

    def greet(self) -> None:
        """Takes one waiting client."""
        self._listener.settimeout(5)
        client, _ = self._listener.accept()
        client.sendall(f"{self.name}\n".encode())
        self._kept.append(client)

    def close(self) -> None:
        for opened in (*self._kept, self._listener):
            opened.close()
