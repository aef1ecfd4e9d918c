"""The watch over a postmaster, on plain processes that stand for one and for its children."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ha_tasks.ports.host import Postmaster as State
from tests.integration.agent_nodes import wait_until
from workers.agent import processes
from workers.agent.postmaster import Postmaster

# It writes its pid as PostgreSQL does, and its child outlives it, as a backend does for a moment.
STANDS_FOR_POSTGRES = """
import os, pathlib, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
lines = [str(os.getpid()), *[""] * 6, "ready   "]
pathlib.Path("postmaster.pid").write_text("\\n".join(lines))
time.sleep(600)
"""
COMMAND = [sys.executable, "-c", STANDS_FOR_POSTGRES]


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "data").mkdir()
    yield tmp_path / "data"
    processes.kill_holders(tmp_path / "data", timeout_s=5)


def started(data: Path) -> Postmaster:
    it = Postmaster(data)
    it.spawn(COMMAND, log=data.parent / "log")
    wait_until(it.says_open)
    return it


def test_a_postmaster_that_is_killed_has_exited_and_its_children_go_with_it(data):
    it = started(data)
    assert (it.state, len(processes.holders(data))) == (State.RUNNING, 2)
    processes.send(it.pid, 9)
    wait_until(lambda: it.state is State.EXITED)
    wait_until(lambda: not processes.holders(data))

    wait_until(lambda: not (data / "postmaster.pid").exists())


def test_a_fence_leaves_nobody_and_a_second_start_finds_a_clean_place(data):
    it = started(data)
    first = it.pid
    it.kill_tree(timeout_s=5)

    assert (it.state, it.pid, processes.holders(data)) == (State.EXITED, None, frozenset())
    it.spawn(COMMAND, log=data.parent / "log")
    assert it.pid not in {None, first}


def test_a_running_postmaster_is_adopted_and_watched(data):
    pid = started(data).pid
    later = Postmaster(data)

    assert later.adopt()
    assert later.pid == pid
    processes.send(pid, 9)
    wait_until(lambda: later.state is State.EXITED)


def test_what_a_dead_postmaster_left_behind_is_killed_when_the_agent_starts(data):
    orphan = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], cwd=data)
    wait_until(lambda: processes.holders(data))
    it = Postmaster(data)

    assert not it.adopt()
    assert orphan.wait(5) == -9
    assert it.state is State.ABSENT


def test_a_postmaster_that_somebody_else_started_is_seen(data):
    it = Postmaster(data)
    assert not it.adopt()
    by_hand = subprocess.Popen(COMMAND, cwd=data)
    wait_until(lambda: it.state is State.RUNNING)

    assert it.pid == by_hand.pid
    it.spawn(COMMAND, log=data.parent / "log")
    assert it.pid == by_hand.pid
    it.kill_tree(timeout_s=5)
    assert by_hand.wait(5) == -9


def test_a_clean_stop_is_asked_for_before_anybody_is_killed(data):
    it = started(data)
    it.stop_fast(timeout_s=5)

    assert it.state is State.EXITED
    assert "KeyboardInterrupt" in (data.parent / "log").read_text()
