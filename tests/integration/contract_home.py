"""A home with two real HTTP instances, a playbook of its own and real workers, for the contract's tests."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from celery import Celery

from ha_tasks.store import Store
from tests.haproxy_server import HaproxyServer

ROOT = Path(__file__).resolve().parents[2]
WEBHOOK_SECRET = b"planted-secret-of-the-hook"

PLAYBOOK = """\
schema = 1
name = "web-again"
version = 1
summary = "take it out, put it back"
recovery_type = "restart"

[match]
incident = "instance_down"
kind = "http"
service = "web"

[guards]
cooldown_s = 1

[[step]]
action = "take_out"
args = { instance = "${incident.instance}" }
undo = "keep"

[[step]]
action = "put_back"
needs = ["take_out"]
args = { instance = "${incident.instance}" }
undo = "keep"

[verify]
within_s = 5
good_probes = 1
"""


class _Well(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def instances(count: int = 2) -> Iterator[list[int]]:
    """Ports of HTTP servers that are well."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _Well) for _ in range(count)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield [server.server_address[1] for server in servers]
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


@dataclass
class ContractHome:
    """``broker_url`` without its password, which is the ``broker`` secret."""

    path: Path
    store: Store

    def environ(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HA_TASKS")}
        return {**kept, "HA_TASKS_HOME": str(self.path), "PYTHONPATH": str(ROOT)}

    def add_webhook(self, url: str) -> None:
        """Into the inventory, which is applied anew."""
        secret = self.path / "secrets" / "hook"
        secret.write_bytes(WEBHOOK_SECRET)
        secret.chmod(0o600)
        with (self.path / "ha-tasks.toml").open("a") as file:
            file.write(
                f'[[webhooks]]\nname = "hook"\nurl = "{url}"\nsecret = {{ file = "secrets/hook" }}\n'
                'events = ["incident.*"]\n'
            )
        self.apply()

    def apply(self) -> None:
        """What the inventory says is what holds."""
        command = [sys.executable, "-m", "ha_tasks.cli", "apply", "--yes"]
        done = subprocess.run(
            command, env=self.environ(), capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    @staticmethod
    def publish_events(broker_url: str) -> None:
        """As beat does it each second."""
        app = Celery(broker=broker_url, set_as_current=False)
        app.send_task("ha.publish_events", queue="alerts", declare=[], ignore_result=True)
        app.close()

    @contextmanager
    def worker(self, within_s: float = 20.0) -> Iterator[subprocess.Popen[bytes]]:
        """A real worker; the block begins once it consumes."""
        log_path = self.path / "worker.log"
        command = [sys.executable, "-m", "celery", "-A", "workers.app", "worker", "-P", "threads", "-c", "4"]
        command += ["-Q", "recovery,alerts", "--without-gossip", "--without-mingle", "-l", "INFO"]
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                command, cwd=self.path, env=self.environ(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            deadline = time.monotonic() + within_s
            while b"ready." not in log_path.read_bytes():
                assert process.poll() is None, log_path.read_text()
                assert time.monotonic() < deadline, log_path.read_text()
                time.sleep(0.05)
            yield process
        finally:
            process.kill()
            process.wait(10)


@contextmanager
def behind_haproxy(home: Path) -> Iterator[tuple[list[int], HaproxyServer]]:
    """Two HTTP servers and a real HAProxy in front of them."""
    home.mkdir()
    with instances() as ports:
        edge = HaproxyServer(home, web={"web1": ports[0], "web2": ports[1]}, nodes={"pg1": 1})
        edge.start()
        try:
            yield ports, edge
        finally:
            edge.stop()


def make_home(
    path: Path, broker_url: str, password: str, ports: list[int], edge: HaproxyServer
) -> ContractHome:
    """Writes the inventory, its secrets and the playbook, and makes the store."""
    path.mkdir(exist_ok=True)
    (path / "secrets").mkdir()
    (path / "playbooks").mkdir()
    secret = path / "secrets" / "broker"
    secret.write_text(password)
    secret.chmod(0o600)
    (path / "playbooks" / "web-again.toml").write_text(PLAYBOOK)
    entries = "".join(
        f'[[services.web.instances]]\nname = "web{no}"\naddress = "127.0.0.1:{port}"\n\n'
        for no, port in enumerate(ports, start=1)
    )
    (path / "ha-tasks.toml").write_text(
        f"""\
schema = 1

[platform]
name = "contract"

[store]
url = "sqlite:///ha.db"

[broker]
url = "{broker_url}"
password = {{ file = "secrets/broker" }}

[playbooks]
directories = ["playbooks"]

[balancers.edge]
socket = "{edge.socket}"

[policies]
min_vantages = 1

[services.web]
kind = "http"

[services.web.routing]
backend = "web"
entry = "http://127.0.0.1:{edge.ports["web"]}/"

[services.web.check]
interval_s = 0.5

{entries}"""
    )
    store = Store(f"sqlite:///{path / 'ha.db'}")
    store.migrate()
    home = ContractHome(path=path, store=store)
    home.apply()
    return home


def until(condition, *, within_s: float, what: str) -> None:
    """Waits for it."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.05)
