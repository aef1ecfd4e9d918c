"""What a step of a run costs beside a task of a plain chain, on the same broker, by the same processes.

``HA_TASKS_BENCH_RUNS=100 make bench`` for a quick look.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

import pytest

from tests.benchmarks.engine_home import PROCESSES, STEPS, Engine, Measured
from tests.benchmarks.machine import machine
from tests.servers import PostgresServer
from tests.valkey_server import valkey_server

RUNS = int(os.environ.get("HA_TASKS_BENCH_RUNS", "1000"))
ROUNDS = int(os.environ.get("HA_TASKS_BENCH_ROUNDS", "3"))
AT_MOST_TIMES = 3.0
AT_MOST_P99_S = 0.050
DURABLE = {"shared_buffers": "64MB", "max_connections": "50"}
"""As PostgreSQL comes: fsync and synchronous_commit are on."""


@contextmanager
def store_of(kind: str, home: Path) -> Iterator[str]:
    """The URL of an empty store."""
    if kind == "sqlite":
        yield "sqlite:///ha.db"
        return
    server = PostgresServer(home, DURABLE)
    server.initialise()
    server.start()
    try:
        yield server.create_database("journal")
    finally:
        server.stop()


def told(kind: str, chains: Sequence[Measured], runs: Sequence[Measured]) -> tuple[float, float]:
    """Prints the figures; answers (times the chain's time, p99 of a step in seconds)."""
    chain_s, run_s = (median(m.total_s for m in measured) for measured in (chains, runs))
    steps_s = [s for measured in runs for s in measured.steps_s]
    p50, p99 = (quantiles(steps_s, n=100)[n - 1] for n in (50, 99))
    ratios = [run.total_s / chain.total_s for run, chain in zip(runs, chains, strict=True)]
    print(
        f"\n{RUNS} runs of {STEPS} no-op steps, store {kind}, {PROCESSES} worker processes, AOF everysec, "
        f"median of {len(runs)} interleaved rounds\n"
        f"  engine  {run_s:6.2f} s  {RUNS / run_s:6.1f} runs/s  {RUNS * STEPS / run_s:6.0f} steps/s"
        f"   a step p50 {1000 * p50:.1f} ms, p99 {1000 * p99:.1f} ms (n {len(steps_s)})\n"
        f"  chain   {chain_s:6.2f} s  {RUNS / chain_s:6.1f} chains/s  {RUNS * STEPS / chain_s:6.0f} tasks/s\n"
        f"  {run_s / chain_s:.2f} times the chain's time ({min(ratios):.2f} to {max(ratios):.2f})"
        f"   [{machine()}]"
    )
    return run_s / chain_s, p99


@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
def test_a_run_takes_at_most_three_times_as_long_as_a_plain_chain(kind: str, tmp_path: Path):
    """Of SQLite it is only told: its writers wait for one another."""
    for part in ("home", "store", "valkey"):
        (tmp_path / part).mkdir()
    with (
        valkey_server(tmp_path / "valkey", durable=True) as broker,
        store_of(kind, tmp_path / "store") as url,
    ):
        engine = Engine(tmp_path / "home", broker, url)
        with engine.working():
            rounds = [(engine.chains(RUNS), engine.runs(RUNS)) for _ in range(ROUNDS)]

    times, p99_s = told(kind, *zip(*rounds, strict=True))
    assert kind == "sqlite" or times <= AT_MOST_TIMES
    assert kind == "sqlite" or p99_s <= AT_MOST_P99_S
