"""How long the processes need to import what they run: most of the demo's way to green is this."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.benchmarks.machine import figures, machine

ROOT = Path(__file__).resolve().parents[2]
RUNS = 7


def import_s(module: str) -> float:
    """Seconds for an interpreter that imports ``module`` and ends; byte code is there already."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], cwd=ROOT, timeout=60, check=True)
    return time.perf_counter() - began


@pytest.mark.parametrize(
    ("module", "at_most_s"),
    [
        ("sys", None),
        ("ha_tasks.cli", 0.3),
        ("ha_tasks.inventory", None),
        ("ha_tasks.bootstrap", None),
        ("ha_tasks.tasks.register", None),
        ("workers.metrics_sidecar", None),
        ("workers.host_agent", None),
    ],
)
def test_importing_stays_quick(module: str, at_most_s: float | None):
    """`ha-tasks --help` must feel immediate; the rest is only told."""
    import_s(module)
    seconds = [import_s(module) for _ in range(RUNS)]

    print(f"\nimport {figures(module, seconds)}   [{machine()}]")
    assert at_most_s is None or min(seconds) < at_most_s
