"""The state store goes away under a running stack: services go on, nothing acts, all resumes by itself."""

from __future__ import annotations

import os
import re
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import psutil
import psycopg
import pytest

from ha_tasks.bootstrap import System, assemble, load_inventory
from ha_tasks.model.leadership import BEAT
from tests.acceptance.stack import Stack, eventually
from tests.servers import PostgresServer

pytestmark = pytest.mark.full

BACK_WITHIN_S = 5.0
TOLD_WITHIN_S = 10.0
AWAY_S = 8.0
RECOVERED_WITHIN_S = 30.0
SCRAPE_S = 10.0
"""Prometheus' own default."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """The server of the store, apart from the platform."""
    server = PostgresServer(tmp_path_factory.mktemp("store server"))
    server.initialise()
    server.start()
    yield server
    server.stop()


class StackOnPostgres(Stack):
    """A demo whose state stands in PostgreSQL."""

    def __init__(self, home: Path, store_url: str) -> None:
        super().__init__(home, {"HA_TASKS__STORE__URL": store_url})
        self.store_url = store_url

    def system(self) -> System:
        environ = {"HA_TASKS_HOME": str(self.home), "HA_TASKS__STORE__URL": self.store_url}
        return assemble(load_inventory(self.home, environ), environ=environ)

    def store_up(self) -> bool | None:
        """What the sidecar says; None: it says nothing."""
        try:
            with urllib.request.urlopen(self.state["endpoints"]["metrics"], timeout=SCRAPE_S) as answer:  # noqa: S310 - http
                said = re.search(r"^ha_store_up ([01])\.0$", answer.read().decode(), flags=re.MULTILINE)
        except OSError:
            return None
        return None if said is None else said[1] == "1"

    def serves(self) -> bool:
        """A page and a commit, through the balancer."""
        with urllib.request.urlopen(self.state["endpoints"]["web"], timeout=2) as answer:  # noqa: S310 - http
            page = answer.status
        with psycopg.connect(self.state["endpoints"]["pg_write"]) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS kept (at timestamptz DEFAULT now())")
            connection.execute("INSERT INTO kept DEFAULT VALUES")
        return page == 200


@pytest.fixture(scope="module")
def stack(server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackOnPostgres]:
    """A running demo on that store."""
    demo = StackOnPostgres(tmp_path_factory.mktemp("store away") / "home", server.create_database("ha"))
    demo.start()
    yield demo
    demo.stop()


def all_resumed(system: System) -> bool:
    """Both observers look, a beat leads and sends, a worker has reported, all within the last 2 s."""
    lately = system.clock.now() - timedelta(seconds=2)
    vantages = {o.vantage.rpartition("/")[2] for o in system.store.observations.since(lately)}
    lease = system.store.leadership.look(BEAT)
    return (
        {"probe-a", "probe-b"} <= vantages
        and lease is not None
        and lease.lease_until > system.clock.now()
        and {w.name.rpartition("/")[2] for w in system.store.ledger.workers(lately)} >= {"recovery-1"}
    )


def test_a_stopped_store_costs_the_services_nothing_and_its_return_is_enough(
    stack: StackOnPostgres, server: PostgresServer
) -> None:
    system = stack.system()
    eventually(lambda: stack.store_up() is True, TOLD_WITHIN_S, "the sidecar says that the store is up")
    server.stop()
    eventually(lambda: stack.store_up() is False, TOLD_WITHIN_S, "the sidecar says that the store is away")
    victim = stack.pid("web1")
    assert victim is not None
    os.kill(victim, signal.SIGKILL)

    ends = time.monotonic() + AWAY_S
    while time.monotonic() < ends:
        assert stack.serves()
        time.sleep(0.5)
    assert stack.pid("web1") in (None, victim), "nobody may restart it while nothing can be written down"
    server.start()

    eventually(lambda: all_resumed(system), BACK_WITHIN_S, "observers, workers and beat go on")
    assert stack.store_up() is True
    eventually(
        lambda: [i.state for i in system.store.incidents.recent() if i.instance == "web1"] == ["resolved"],
        RECOVERED_WITHIN_S,
        "what failed meanwhile is recovered",
    )
    system.store.dispose()


def test_a_frozen_store_blocks_nobody_for_longer_than_its_deadlines(
    stack: StackOnPostgres, server: PostgresServer
) -> None:
    system = stack.system()
    before = {p["name"]: p["pid"] for p in stack.state["processes"]}
    postmaster = psutil.Process(int((server.data / "postmaster.pid").read_text().partition("\n")[0]))
    family = [postmaster, *postmaster.children(recursive=True)]
    for process in family:
        process.send_signal(signal.SIGSTOP)
    try:
        eventually(lambda: stack.store_up() is False, TOLD_WITHIN_S, "the sidecar says that it is away")
        ends = time.monotonic() + AWAY_S
        while time.monotonic() < ends:
            assert stack.serves()
            time.sleep(0.5)
    finally:
        for process in family:
            with suppress(psutil.NoSuchProcess):  # one whose client has gone ends by itself
                process.send_signal(signal.SIGCONT)

    eventually(lambda: all_resumed(system), BACK_WITHIN_S, "observers, workers and beat go on")
    assert stack.store_up() is True
    assert {p["name"]: p["pid"] for p in stack.state["processes"]} == before, "nothing was restarted"
    system.store.dispose()
