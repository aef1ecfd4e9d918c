"""The life of a whole stack: killed, started again, stopped, purged; nothing of it is ever left over."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from ha_tasks.embedded import demo, lock, reaper, state
from ha_tasks.embedded.home import Home, home_at
from tests.integration.embedded_home import alive, wait_until


class Demo:
    """A stack on a home of its own, as `ha-tasks demo --detach` starts it."""

    def __init__(self, root: Path) -> None:
        self.home: Home = home_at(root)
        self.said: list[str] = []

    def start(self) -> None:
        demo.start(self.home.root, detach=True, echo=self.said.append)

    def stop(self, *, purge: bool = False) -> None:
        demo.stop(self.home.root, purge=purge, echo=self.said.append)

    @property
    def members(self) -> set[int]:
        return reaper.members(self.home.root, self.home.stack.read_text().strip())

    def pid(self, name: str) -> int:
        return next(p.pid for p in state.load(self.home).processes if p.name == name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    made = Demo(tmp_path_factory.mktemp("a stack") / "it's home")
    made.start()
    with psycopg.connect(state.load(made.home).endpoints["pg_write"]) as writer:
        writer.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    yield made
    made.stop(purge=True)


def test_green_is_said_last_and_only_after_the_proof(whole: Demo):
    green = next(number for number, line in enumerate(whole.said) if line.startswith("ALL GREEN"))

    assert "proof" in whole.said[green - 1]
    assert not any("http://" in line for line in whole.said[:green])
    assert any("development only" in line for line in whole.said[green:])


def test_every_kind_of_process_is_on_record(whole: Demo):
    kinds = {process.kind for process in state.load(whole.home).processes}

    assert kinds >= {
        "agent", "beat", "broker", "cache", "flower", "haproxy", "postgres", "reaper", "sidecar",
        "supervisor", "web", "worker",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["haproxy", "broker", "agent-pg2", "sidecar"])
def test_a_killed_process_is_back_and_on_record(whole: Demo, name: str):
    before = whole.pid(name)
    os.kill(before, signal.SIGKILL)

    assert wait_until(lambda: name in names(whole) and whole.pid(name) != before, 10)


def names(whole: Demo) -> set[str]:
    return {process.name for process in state.load(whole.home).processes}


def test_a_killed_reaper_is_replaced(whole: Demo):
    before = whole.pid("reaper")
    os.kill(before, signal.SIGKILL)

    assert wait_until(lambda: whole.pid("reaper") != before and alive(whole.pid("reaper")), 5)


def test_a_secret_that_is_away_for_a_while_ends_no_platform(whole: Demo):
    secret = whole.home.secret("broker-request")
    away = secret.with_name("away")
    secret.rename(away)
    try:
        log = whole.home.log_of("supervisor")
        assert wait_until(lambda: "state.json is not renewed" in log.read_text(), 5)
    finally:
        away.rename(secret)

    before = whole.pid("sidecar")
    os.kill(before, signal.SIGKILL)
    assert wait_until(lambda: "sidecar" in names(whole) and whole.pid("sidecar") != before, 10)


def test_a_killed_supervisor_leaves_nothing_and_its_data_is_there_at_the_next_start(whole: Demo):
    """Within 4 s nothing of it runs."""
    supervisor = lock.holder(whole.home.lock)
    assert supervisor
    assert len(whole.members) > 20
    os.kill(supervisor, signal.SIGKILL)

    assert wait_until(lambda: not whole.members, 4)
    assert not alive(supervisor)
    ports = json.loads(whole.home.ports.read_text())
    whole.start()
    with psycopg.connect(state.load(whole.home).endpoints["pg_read"]) as reader:
        assert reader.execute("SELECT answer FROM kept").fetchone() == (42,)
    assert json.loads(whole.home.ports.read_text()) == ports


def test_stopping_ends_everything_in_order_and_removes_the_record(whole: Demo):
    pids = [process.pid for process in state.load(whole.home).processes]
    whole.stop()

    assert not whole.members
    assert not any(map(alive, pids))
    assert not whole.home.state.exists()
    log = whole.home.log_of("supervisor").read_text().splitlines()
    stopped = [line.split()[2] for line in log if " stopped " in line]
    assert (
        max(map(stopped.index, ("beat-a", "beat-b"))) < stopped.index("postgres") < stopped.index("agent-pg1")
    )
    assert not [line for line in log if " killed " in line]


def test_no_secret_is_left_in_a_log_or_in_what_postgresql_keeps_of_statements(whole: Demo):
    """The stack has been stopped: only then PostgreSQL writes its statistics down."""
    secrets = {path.name: path.read_bytes().strip() for path in whole.home.secrets.iterdir()}
    statistics = list(whole.home.nodes.glob("*/data/pg_stat/*"))
    told = [path.read_bytes() for path in (*whole.home.logs.iterdir(), *statistics)]

    assert not whole.home.state.exists()
    assert statistics
    assert [name for name, secret in secrets.items() if any(secret in text for text in told)] == []
