"""What a real agent does by itself with a real PostgreSQL, and what it never does."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from ha_tasks.model.self_fence import Standing
from ha_tasks.ports.host import Postmaster
from tests.integration.agent_nodes import Nodes, nodes, thaw, wait_until
from workers.agent import processes

NAMES = ("pg1", "pg2")


@pytest.fixture
def pair(tmp_path):
    """pg1 is the primary, whose commits wait for pg2."""
    with nodes(tmp_path, *NAMES) as made:
        made["pg1"].rows("CREATE TABLE entries (id text PRIMARY KEY)")
        made.agents.rejoin("pg2", "pg1", made.by, "first", timeout_s=60)
        made.agents.set_sync("pg1", "ANY 1 (pg2)", made.by)
        wait_until(lambda: _streams(made), what="pg2 streams")
        yield made


def _streams(made: Nodes) -> bool:
    sql = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum' AND state = 'streaming'"
    return made["pg1"].value(sql) == "1"


def status(made, name="pg1"):
    return made.agents.status(name, timeout_s=2.0)


def standing(made, primary):
    return Standing(epoch=made.by.epoch, primary=primary, steady=True)


def test_a_primary_that_slept_through_its_failover_is_ended_by_its_own_agent(pair):
    """Nobody has to reach it with a fence: it is told who the primary is, and confirms it."""
    by = pair.next_epoch()
    pair.agents.revoke("pg2", by)
    pair.agents.promote("pg2", "", by)
    told = threading.Event()

    def tell():
        while not told.wait(0.5):
            pair.agents.tell("pg1", standing(pair, "pg2"), timeout_s=2.0)

    telling = threading.Thread(target=tell)
    telling.start()
    try:
        wait_until(lambda: not pair["pg1"].tree(), within_s=15, what="pg1 is ended")
    finally:
        told.set()
        telling.join()

    assert "pg2 is the primary" in status(pair).self_fenced
    assert status(pair).postmaster is Postmaster.EXITED
    assert status(pair, "pg2").in_recovery is False


@pytest.mark.full
def test_a_word_about_another_primary_ends_nobody_whose_standbys_stream(pair):
    wrong = Standing(epoch=pair.by.epoch + 7, primary="pg2", steady=True)
    until = time.monotonic() + 4
    while time.monotonic() < until:
        pair.agents.tell("pg1", wrong, timeout_s=2.0)
        time.sleep(0.3)

    assert pair["pg1"].value("SELECT 1") == "1"
    assert status(pair).self_fenced == ""


@pytest.mark.full
def test_a_primary_without_store_and_standbys_is_ended_after_a_while_and_starts_when_told(pair):
    pair.agents.tell("pg1", standing(pair, "pg1"))
    began = time.monotonic()
    processes.kill_holders(pair["pg2"].data, timeout_s=5.0)
    wait_until(lambda: not pair["pg1"].tree(), within_s=40, what="pg1 is ended")
    took_s = time.monotonic() - began

    assert took_s > 9.0
    assert "no synchronous standby has streamed" in status(pair).self_fenced
    time.sleep(3)
    assert not pair["pg1"].tree(), "nobody has told it to start"
    pair.agents.start_primary("pg1", "ANY 1 (pg2)", pair.by)
    assert status(pair).self_fenced == ""
    assert status(pair).in_recovery is False


@pytest.mark.full
def test_a_primary_without_store_stays_while_its_standby_streams_and_an_asynchronous_one_stays(pair):
    pair.agents.tell("pg1", standing(pair, "pg1"))
    time.sleep(14)
    followed = status(pair)
    pair.agents.set_sync("pg1", "", pair.by)
    processes.kill_holders(pair["pg2"].data, timeout_s=5.0)
    time.sleep(14)

    assert (followed.in_recovery, status(pair).in_recovery) == (False, False)
    assert followed.store_heard_s > 10


@pytest.mark.full
def test_an_agent_that_was_paused_does_not_count_its_pause_against_the_primary(pair):
    """It wakes after 12 s, has heard nobody, and its standby was away all the time."""
    pair.agents.tell("pg1", standing(pair, "pg1"))
    processes.kill_holders(pair["pg2"].data, timeout_s=5.0)
    agent = pair["pg1"].agent.pid
    os.kill(agent, signal.SIGSTOP)
    time.sleep(12)
    thaw(agent)
    time.sleep(4)

    assert status(pair).in_recovery is False
    assert status(pair).self_fenced == ""
