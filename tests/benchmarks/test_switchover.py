"""Switchovers back and forth under load: what clients notice, through the balancer and through pgbouncer.

``HA_TASKS_BENCH_SWITCHOVERS=4 make bench`` for a quick look.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from ha_tasks.model.load import Ack, LoadReport, lost, stale
from tests.acceptance.stack import Stack
from tests.acceptance.writers import application, writing
from tests.benchmarks.machine import machine
from tests.pgbouncer_server import ADMIN, ADMIN_PASSWORD, pgbouncer
from tests.servers import free_port

SWITCHOVERS = int(os.environ.get("HA_TASKS_BENCH_SWITCHOVERS", "20"))
AT_MOST_MEDIAN_S = 1.5
PATIENCE_S = 30.0
HELD, LET_GO = "pause_pooler", "resume_pooler"
"""The steps between which nobody writes; without a pooler the first and the last of them do nothing."""


def pause_s(acks: tuple[Ack, ...]) -> float:
    """Longest time between two acknowledgements, of whichever writer."""
    moments = sorted(a.acked_at for a in acks)
    return max((b - a).total_seconds() for a, b in pairwise(moments))


def switched(stack: Stack, entry: str | None = None) -> tuple[LoadReport, dict[str, float]]:
    """One switchover under four writers, each of which writes every 20 ms and waits as psql would.

    With it what each step has cost, in seconds.
    """
    with writing(stack, entry, patience_s=PATIENCE_S) as written:
        done = stack.result("switchover", "db", "--yes")
        assert done["success"], done
    return written.report, costs_s(stack.result("run", str(done["run"]["id"]))["steps"])


def costs_s(steps: list[dict[str, Any]]) -> dict[str, float]:
    """Of the steps within the pause, each counted from the end of the one before it."""
    ends = [datetime.fromisoformat(step["ended_at"]) for step in steps]
    costs = {
        step["id"]: (ended - before).total_seconds()
        for step, (before, ended) in zip(steps[1:], pairwise(ends), strict=True)
    }
    names = list(costs)
    return {name: costs[name] for name in names[names.index(HELD) : names.index(LET_GO) + 1]}


def measured(name: str, stack: Stack, entry: str | None = None) -> list[LoadReport]:
    both = [switched(stack, entry) for _ in range(SWITCHOVERS)]
    reports, costs = [report for report, _ in both], [cost for _, cost in both]
    pauses = [pause_s(report.acks) for report in reports]
    failed = [len(report.misses) for report in reports]
    print(
        f"\n{len(reports)} switchovers back and forth, 4 writers {name}: no write for "
        f"{median(pauses):.2f} s median, {min(pauses):.2f} to {max(pauses):.2f}; "
        f"{sum(len(r.acks) for r in reports)} acknowledged, {sum(lost(r) or 0 for r in reports)} lost, "
        f"{sum(stale(r.acks) for r in reports)} stale, {sum(failed)} failed "
        f"({median(failed):.0f} a switchover)   [{machine()}]\n"
        f"of it, in ms: {', '.join(f'{step} {_median_ms(costs, step)}' for step in costs[0])}"
    )
    assert [lost(r) for r in reports] == [0] * len(reports)
    assert [stale(r.acks) for r in reports] == [0] * len(reports)
    assert median(pauses) <= AT_MOST_MEDIAN_S
    return reports


def _median_ms(costs: list[dict[str, float]], step: str) -> int:
    return round(1000 * median(cost[step] for cost in costs))


@contextmanager
def running(home: Path, **overrides: str) -> Iterator[Stack]:
    stack = Stack(home, overrides)
    stack.start()
    try:
        yield stack
    finally:
        stack.stop()


@pytest.mark.full
def test_what_a_switchover_costs_behind_the_balancer(tmp_path: Path) -> None:
    with running(tmp_path / "home") as stack:
        measured("through the balancer", stack)


@pytest.mark.full
@pytest.mark.needs("pgbouncer")
def test_what_a_switchover_costs_behind_pgbouncer(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    port = free_port()
    pooler = {
        "HA_TASKS__SERVICES__DB__POOLER__ADDRESSES": f'["127.0.0.1:{port}"]',
        "HA_TASKS__SERVICES__DB__POOLER__USER": ADMIN,
        "HA_TASKS__SERVICES__DB__POOLER__DATABASE": "app",
        "HA_TASKS__SERVICES__DB__POOLER__PASSWORD": '{ env = "POOLER_OF_THIS_TEST" }',
        "POOLER_OF_THIS_TEST": ADMIN_PASSWORD,
    }
    with running(tmp_path / "home", **pooler) as stack:
        door, login = application(stack)
        assert isinstance(login.password, str)
        users = {login.user: login.password}
        upstream = int(door.rpartition(":")[2])
        with pgbouncer(tmp_path / "pgbouncer", upstream=upstream, users=users, port=port) as server:
            reports = measured("through pgbouncer", stack, server.address)

    assert [len(report.misses) for report in reports] == [0] * len(reports)
