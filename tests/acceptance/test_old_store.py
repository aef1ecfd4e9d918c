"""An old copy of the store is put back under a running stack: nothing acts by it until a person approves."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ha_tasks.bootstrap import System, assemble, load_inventory
from ha_tasks.embedded.inventory import CLUSTER
from ha_tasks.embedded.layout import nodes_of
from tests.acceptance.stack import Stack, eventually

pytestmark = pytest.mark.full

HELD_WITHIN_S = 5.0
WATCHED_S = 6.0
"""How long nothing may happen: several rounds of everything that could act."""


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A demo that no other test uses: its store is exchanged."""
    demo = Stack(tmp_path_factory.mktemp("old store") / "home")
    demo.start()
    yield demo
    demo.stop()


def copied(store: Path, to: Path) -> None:
    """What a backup of the running store holds."""
    with closing(sqlite3.connect(store)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)


def put_back(copy: Path, store: Path) -> None:
    """As a person would restore it, but for the processes, which go on."""
    for beside in ("-wal", "-shm"):
        store.with_name(store.name + beside).unlink(missing_ok=True)
    copy.replace(store)


def reality(system: System) -> dict[str, Any]:
    """What the servers, their agents and the balancer are about, whatever the store says."""
    nodes = {name: system.agents.status(name, timeout_s=2.0) for name in nodes_of(system.platform.hosts)}
    return {
        "nodes": {n: (s.in_recovery, s.upstream, s.epoch, s.fence, s.timeline) for n, s in nodes.items()},
        "balancer": sorted((s.backend, s.server, str(s.admin)) for s in system.balancers["edge"].servers()),
    }


def test_an_old_store_does_nothing_until_it_is_approved_and_leads_the_next_failover(
    own_stack: Stack, tmp_path: Path
) -> None:
    store, copy = own_stack.home / "ha.db", tmp_path / "backup.db"
    system = assemble(load_inventory(own_stack.home), environ={"HA_TASKS_HOME": str(own_stack.home)})
    copied(store, copy)
    assert own_stack.drill("crash-primary")["verdict"] == "PASS"
    led, before = system.store.clusters.get(CLUSTER), reality(system)
    runs = len(system.store.journal.recent(1000))

    put_back(copy, store)

    eventually(lambda: bool(system.store.identity.read().held), HELD_WITHIN_S, "the old store is held")
    end = time.monotonic() + WATCHED_S
    while time.monotonic() < end:
        assert reality(system) == before
        time.sleep(0.5)
    assert system.store.clusters.get(CLUSTER).epoch < led.epoch
    assert len(system.store.journal.active()) == 0
    assert len(system.store.journal.recent(1000)) < runs
    told = own_stack.command("status")
    assert told.returncode == 0, told.stderr
    (line,) = [line for line in told.stdout.splitlines() if "nothing acts" in line]
    assert line.endswith("ha-tasks store approve")
    assert own_stack.command("store", "show").returncode == 3

    done = own_stack.result("store", "approve")

    again = system.store.clusters.get(CLUSTER)
    assert [c["primary"] for c in done["clusters"]] == [led.primary] == [again.primary]
    assert again.epoch > led.epoch
    eventually(lambda: not system.store.identity.read().held, HELD_WITHIN_S, "the store is trusted again")
    assert "nothing acts" not in own_stack.command("status").stdout
    report = own_stack.drill("crash-primary")
    assert report["verdict"] == "PASS", report["reasons"]
    system.store.dispose()
