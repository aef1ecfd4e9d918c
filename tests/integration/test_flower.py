"""Flower, configured as it is shipped, on a real broker with a real worker: who sees what."""

from __future__ import annotations

import base64
import json
import os
import runpy
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from ha_tasks.errors import UsageError
from ha_tasks.names import ActionName, Queue, step_task
from ha_tasks.tasks.app import make_app
from tests.servers import free_port
from tests.valkey_server import PASSWORD, ValkeyServer, valkey_server

CONFIG = Path(__file__).parents[2] / "workers/flowerconfig.py"
LOGIN = "a-login-for-this-test-only"
STEP = {"v": 1, "run": 7, "step": 2, "service": "web", "playbook": "http-instance-down", "fence": 3}
NAME = step_task(ActionName.TAKE_OUT)


@dataclass
class Watched:
    """Flower and the worker that it watches."""

    port: int
    home: Path
    flower: subprocess.Popen[bytes]
    broker: ValkeyServer

    def ask(self, path: str, *, user: str | None = "ha", data: bytes | None = None) -> tuple[int, str]:
        """(status, body); ``user`` None: without a login."""
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, data=data)
        if user is not None:
            login = base64.b64encode(f"{user}:{LOGIN}".encode()).decode()
            request.add_header("Authorization", f"Basic {login}")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()

    def tasks(self) -> list[dict[str, object]]:
        return list(json.loads(self.ask("/api/tasks")[1]).values())


def celery(home: Path, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "celery", "-A", "tests.integration.flower_app", *arguments]
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("HA_TASKS", "FLOWER"))}
    with (home / f"{arguments[0]}.log").open("wb") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**plain, "HA_TASKS_HOME": str(home), **environment},
            cwd=CONFIG.parents[1],
        )


def await_(condition: Callable[[], object], what: str, within_s: float = 60.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.1)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    home = tmp_path_factory.mktemp("home")
    (home / "secrets").mkdir()
    write_private(home / "secrets/flower", LOGIN)
    with valkey_server(tmp_path_factory.mktemp("valkey")) as broker:
        write_private(home / "broker-url", broker.secret_url)
        port = free_port()
        flower = celery(
            home, "flower", f"--conf={CONFIG}", f"--port={port}", FLOWER_UNAUTHENTICATED_API="true"
        )
        worker = celery(
            home, "worker", "-P", "solo", "-Q", Queue.RECOVERY, "--without-gossip", "--without-mingle"
        )
        seen = Watched(port=port, home=home, flower=flower, broker=broker)
        try:
            await_(lambda: _is_up(seen), "Flower does not answer")
            with broker.client() as client:
                # It answers a moment before it listens, and what was sent until then it never hears of.
                await_(client.pubsub_numpat, "Flower does not listen to events")
            _show_a_task(seen)
            yield seen
        finally:
            for process in (flower, worker):
                process.kill()
                process.wait(10)


def _show_a_task(seen: Watched) -> None:
    """Sent again while Flower has seen none: whoever listens first may have been the worker."""
    app = make_app(seen.broker.secret_url)
    due, ends = 0.0, time.monotonic() + 60
    while not any(t["state"] == "SUCCESS" for t in seen.tasks()):
        assert time.monotonic() < ends, "no task was seen"
        if time.monotonic() >= due:
            app.send_task(NAME, kwargs=STEP, queue=Queue.RECOVERY)
            due = time.monotonic() + 10
        time.sleep(0.1)
    app.close()


def write_private(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)


def _is_up(seen: Watched) -> bool:
    assert seen.flower.poll() is None, (seen.home / "flower.log").read_text()
    try:
        return seen.ask("/healthcheck")[0] == 200
    except OSError:
        return False


QUIET = ("--without-gossip", "--without-mingle")
CLOSED = (
    "/", "/workers", "/tasks", "/broker", "/tasks/datatable?draw=1&start=0&length=5&order[0][column]=0",
    "/api/tasks", "/api/workers", "/api/task/types", "/api/queues/length",
)  # fmt: skip


@pytest.mark.parametrize("path", CLOSED)
def test_pages_and_api_ask_for_the_login(watched: Watched, path: str) -> None:
    assert watched.ask(path, user=None)[0] == 401
    assert watched.ask(path, user="somebody")[0] == 401
    assert watched.ask(path)[0] == 200


@pytest.mark.parametrize("path", ["/metrics", "/healthcheck"])
def test_flower_leaves_these_open_so_it_listens_on_loopback_only(watched: Watched, path: str) -> None:
    assert watched.ask(path, user=None)[0] == 200


def test_it_listens_on_loopback_only(watched: Watched) -> None:
    connections = psutil.Process(watched.flower.pid).net_connections("inet")

    assert {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN} == {"127.0.0.1"}


def test_a_task_is_named_for_what_it_does_and_says_what_it_is_about(watched: Watched) -> None:
    (task,) = watched.tasks()

    assert task["name"] == "ha.step.take_out"
    assert all(f"'{key}': {value!r}" in str(task["kwargs"]) for key, value in STEP.items())
    page = watched.ask(f"/task/{task['uuid']}")[1]
    assert "http-instance-down" in page


def test_the_list_of_tasks_shows_what_they_are_about(watched: Watched) -> None:
    page = watched.ask("/tasks")[1]

    assert page.index('data-column="name"') < page.index('data-column="kwargs"')


def test_nothing_can_be_done_through_it_even_with_the_login(watched: Watched) -> None:
    (task,) = watched.tasks()
    worker = str(task["worker"])

    answers = [
        watched.ask(path, data=b"{}")[0]
        for path in (
            f"/api/task/send-task/{NAME}",
            f"/api/task/revoke/{task['uuid']}",
            f"/api/worker/shutdown/{worker}",
        )
    ]
    assert answers == [403, 403, 403]


def test_no_secret_is_shown_to_other_users_or_on_the_pages(watched: Watched) -> None:
    process = psutil.Process(watched.flower.pid)
    pages = [
        watched.ask(path)[1] for path in ("/", "/broker", "/tasks", "/api/workers?refresh=1", "/metrics")
    ]

    assert "broker_transport_options" in "".join(pages)
    everywhere = "".join([*process.cmdline(), *process.environ().values(), *pages])
    logs = "".join(log.read_text() for log in watched.home.glob("*.log"))
    assert LOGIN not in everywhere + logs
    assert PASSWORD not in everywhere + logs


def test_nothing_is_kept_on_disk(watched: Watched) -> None:
    assert not list(watched.home.glob("flower*.db*"))


@pytest.mark.parametrize(
    ("secret", "mode", "told"),
    [
        (None, 0o600, "cannot be read: No such file"),
        ("", 0o600, "is empty"),
        ("x", 0o604, "is open to others: chmod 0600"),
    ],
)
def test_without_a_login_of_its_own_there_is_no_flower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str | None, mode: int, told: str
) -> None:
    file = tmp_path / "flower"
    if secret is not None:
        file.write_text(secret)
        file.chmod(mode)
    monkeypatch.setenv("HA_TASKS_FLOWER_PASSWORD_FILE", str(file))

    with pytest.raises(UsageError, match=told):
        runpy.run_path(str(CONFIG))
