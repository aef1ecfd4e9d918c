"""Planned work on the running stack: switchovers, with writers on it, and a rolling restart."""

from __future__ import annotations

import os
import re
import signal

import psycopg
import pytest

from ha_tasks.model.load import lost, stale
from tests.acceptance.stack import Stack, eventually
from tests.acceptance.writers import writing


def primary_of(stack: Stack) -> str:
    (database,) = [s for s in stack.result("status")["services"] if s["name"] == "db"]
    return next(i["name"] for i in database["instances"] if i["role"] == "primary")


def in_order(stack: Stack) -> None:
    """Nothing is broken and nothing is left to be done."""
    eventually(lambda: not open_incidents(stack), 60, "no incident is open")


def open_incidents(stack: Stack) -> list[str]:
    found = stack.result("incidents")["incidents"]
    return [i["state"] for i in found if i["state"] not in ("resolved", "escalated")]


def test_a_switchover_under_load_loses_nothing_and_the_old_primary_stands_by(stack: Stack) -> None:
    before = len(stack.result("incidents")["incidents"])
    with writing(stack) as written:
        done = stack.result("switchover", "db", "--yes")

    assert done["success"], done
    assert done["primary"] != done["from"]
    assert done["redundancy"] is True, done["outstanding"]
    assert (lost(written.report), stale(written.report.acks)) == (0, 0)
    assert {a.node for a in written.report.acks} == {done["primary"], done["from"]}
    assert len(stack.result("incidents")["incidents"]) == before


def test_without_a_yes_nothing_begins_and_a_dry_run_changes_nothing(stack: Stack) -> None:
    runs = len(stack.result("run")["runs"])
    asked = stack.command("switchover", "db")
    shown = stack.result("switchover", "db", "--dry-run")

    assert (asked.returncode, "say --yes to begin" in asked.stderr) == (2, True)
    assert shown["playbook"] == "postgres-switchover"
    assert len(stack.result("run")["runs"]) == runs


@pytest.mark.full
def test_a_long_transaction_is_named_and_nothing_is_touched(stack: Stack) -> None:
    in_order(stack)
    entry = stack.state["endpoints"]["pg_write"]
    with psycopg.connect(entry, application_name="monthly report") as connection:
        connection.execute("SELECT 1")
        eventually(lambda: age_s(stack) > 10, 30, "the transaction is old")
        refused = stack.command("switchover", "db", "--yes")
        connection.execute("SELECT 2")

    assert refused.returncode == 1
    assert "monthly report" in refused.stdout


def age_s(stack: Stack) -> float:
    with psycopg.connect(stack.state["endpoints"]["pg_write"]) as connection:
        row = connection.execute(
            "SELECT extract(epoch FROM max(now() - xact_start)) FROM pg_stat_activity "
            "WHERE application_name = 'monthly report'"
        ).fetchone()
    return float(row[0] or 0) if row else 0.0


@pytest.mark.full
@pytest.mark.parametrize("point", ["claimed", "done", "settled"])
@pytest.mark.parametrize(
    "step",
    [
        "open_epoch",
        "isolate_primary",
        "stop_primary",
        "revoke_standbys",
        "choose_successor",
        "repoint_survivors",
        "promote_candidate",
        "route_writes",
        "demote_primary",
        "commit_primary",
        "restore_redundancy",
    ],
)
def test_a_worker_killed_anywhere_in_a_switchover_promotes_once_and_loses_nothing(
    stack: Stack, step: str, point: str
) -> None:
    in_order(stack)
    armed = stack.home / "crash-points" / f"do.{step}.{point}"
    armed.touch()
    with writing(stack) as written:
        done = stack.result("switchover", "db", "--yes")

    assert not armed.exists(), "the point was never reached"
    assert done["success"], done
    assert (lost(written.report), stale(written.report.acks)) == (0, 0)
    timelines = {a.timeline for a in written.report.acks}
    assert max(timelines) - min(timelines) == 1


@pytest.mark.full
def test_a_setting_that_waits_for_a_restart_reaches_every_node_without_a_lost_write(stack: Stack) -> None:
    in_order(stack)
    for name in ("pg1", "pg2", "pg3"):
        conf = stack.home / "nodes" / name / "conf" / "postgresql.conf"
        text = conf.read_text()
        conf.write_text(re.sub(r"shared_buffers = '\d+MB'", "shared_buffers = '33MB'", text))
        lines = (stack.home / "nodes" / name / "data" / "postmaster.pid").read_text().splitlines()
        os.kill(int(lines[0]), signal.SIGHUP)
    eventually(
        lambda: len(stack.result("rolling-restart", "db", "--dry-run")["why"]) == 3, 20, "all three wait"
    )
    old = primary_of(stack)
    with writing(stack) as written:
        done = stack.result("rolling-restart", "db", "--yes")
    again = stack.result("rolling-restart", "db", "--yes")

    assert done["success"], done
    assert (sorted(done["restarted"]), done["restarted"][-1]) == (["pg1", "pg2", "pg3"], old)
    assert again["restarted"] == []
    assert (lost(written.report), stale(written.report.acks)) == (0, 0)
