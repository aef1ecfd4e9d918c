"""A bad change on real processes: an agent, HAProxy, two instances that read a file with a secret in it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ha_tasks.cli.root import run
from tests.haproxy_server import HaproxyServer
from tests.integration.agent_nodes import KEY, unit_agent, wait_until
from tests.servers import free_port

APP = """
import http.server, os, pathlib, signal, sys
name, port, conf = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
text = [""]
def read(*_):
    text[0] = conf.read_text()
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(500 if "broken" in text[0] else 200)
        self.end_headers()
    def log_message(self, *_):
        pass
read()
signal.signal(signal.SIGHUP, read)
server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Answer)
pathlib.Path(name + ".pid").write_text(f"{os.getpid()}\\n")
server.serve_forever()
"""
SECRET = "hunter2"
GOOD, BETTER = f"password = {SECRET}\n", f"password = {SECRET}\nworkers = 9\n"
BROKEN = f"password = {SECRET}\nbroken\n"


@dataclass
class Site:
    """A home of the control plane, and what it protects."""

    home: Path
    balancer: HaproxyServer
    capsys: pytest.CaptureFixture[str]

    def __post_init__(self) -> None:
        self.conf = self.home / "site.conf"
        self.entry = f"127.0.0.1:{self.balancer.ports['web']}"

    def status(self) -> int:
        connection = http.client.HTTPConnection(self.entry, timeout=2)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status
        finally:
            connection.close()

    def push(self, text: str) -> None:
        """Somebody else writes the file and reloads."""
        self.conf.write_text(text)
        for name in ("web1", "web2"):
            os.kill(int((self.home / f"{name}.pid").read_text()), signal.SIGHUP)

    def call(self, *words: str) -> tuple[int, dict[str, object]]:
        self.capsys.readouterr()
        status = run([*words, "--json"])
        written = self.capsys.readouterr()
        assert SECRET not in written.out + written.err
        return status, json.loads(written.out)

    def judgements(self) -> dict[str, str]:
        _, content = self.call("versions", "web")
        return {v["version"]: v["judgement"] for v in content["versions"]}  # type: ignore[index,attr-defined]


@pytest.fixture
def site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Site]:
    ports = {name: free_port() for name in ("web1", "web2")}
    (tmp_path / "site.conf").write_text(GOOD)
    (tmp_path / "app.py").write_text(APP)
    balancer = HaproxyServer(tmp_path, web=ports, nodes={"pg1": free_port()})
    with unit_agent(tmp_path, host="app", unit="other", more=_agent(tmp_path, ports)):
        balancer.start()
        try:
            (tmp_path / "key").chmod(0o600)
            (tmp_path / "ha-tasks.toml").write_text(_inventory(tmp_path, ports, balancer))
            monkeypatch.setenv("HA_TASKS_HOME", str(tmp_path))
            monkeypatch.delenv("HA_TASKS_CONFIG", raising=False)
            made = Site(tmp_path, balancer, capsys)
            wait_until(lambda: made.status() == 200)
            assert run(["migrate"]) == run(["apply", "--yes"]) == 0
            yield made
        finally:
            balancer.stop()


def _agent(home: Path, ports: dict[str, int]) -> str:
    units = "\n".join(
        f"[units.{name}]\nautostart = true\ncwd = {json.dumps(str(home))}\n"
        f"command = {json.dumps([sys.executable, 'app.py', name, str(port), 'site.conf'])}"
        for name, port in ports.items()
    )
    reload = f"cd {home} && kill -HUP $(cat web1.pid web2.pid)"
    return f"""{units}
[files.site]
path = "site.conf"
staged = "site.conf.next"
check = ["/bin/sh", "-c", "cat {{}}; ! grep -q impossible {{}}"]
reload = {json.dumps(["/bin/sh", "-c", reload])}
"""


def _inventory(home: Path, ports: dict[str, int], balancer: HaproxyServer) -> str:
    agent = tomllib.loads((home / "agent.toml").read_text())["listen"]
    instances = "".join(
        f'[[services.web.instances]]\nname = "{name}"\nhost = "app"\naddress = "127.0.0.1:{port}"\n'
        for name, port in ports.items()
    )
    return f"""
schema = 1
[platform]
name = "test"
[store]
url = "sqlite:///ha.db"
[broker]
url = "redis://127.0.0.1:1/0"
[agents]
key = {{ file = "key" }}
[hosts.app]
agent = "http://{agent}"
[balancers.edge]
socket = "{balancer.socket}"
[policies]
min_vantages = 1
[services.web]
kind = "http"
[services.web.routing]
backend = "web"
entry = "http://127.0.0.1:{balancer.ports["web"]}/"
[[services.web.files]]
name = "site"
hosts = ["app"]
{instances}
"""


def good_version(site: Site) -> None:
    """What is there is recorded and proved."""
    assert site.call("versions", "web", "--record")[0] == 0
    status, content = site.call("rollback", "web", "--to", "1", "--yes", "--local")
    assert (status, content["files"]) == (0, [])


def test_a_bad_change_that_something_else_pushed_is_found_by_health_and_taken_back(site: Site):
    good_version(site)
    site.push(BROKEN)
    wait_until(lambda: site.status() == 500)

    status, content = site.call("recover", "web", "--local")

    assert (status, content["success"]) == (0, True), content["message"]
    assert "version-rollback" in str(content["message"])
    assert site.conf.read_text() == GOOD
    assert site.status() == 200
    assert SECRET.encode() not in b"".join(path.read_bytes() for path in site.home.glob("ha.db*"))


@pytest.mark.full
def test_a_new_version_is_proved_and_one_that_does_not_serve_is_taken_back_by_itself(site: Site):
    good_version(site)
    for number, text, expected in ((2, BETTER, 0), (3, BROKEN, 1), (4, "impossible", 1)):
        (site.home / "site.conf.next").write_text(text)
        site.call("versions", "web", "--staged", "--reason", "a test")
        status, _ = site.call("rollback", "web", "--to", str(number), "--yes", "--local")
        assert status == expected
        assert site.conf.read_text() == BETTER
        assert site.status() == 200

    assert site.judgements() == {"v1": "good", "v2": "good", "v3": "bad", "v4": "recorded"}
    assert site.call("rollback", "web", "--yes", "--local")[0] == 0
    assert site.conf.read_text() == GOOD
    assert SECRET.encode() not in b"".join(path.read_bytes() for path in site.home.glob("ha.db*"))
    assert KEY not in b"".join(path.read_bytes() for path in site.home.glob("ha.db*"))
