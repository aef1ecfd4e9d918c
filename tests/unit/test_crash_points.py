"""Crash points: an armed boundary stops its executor, once, as its file says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ha_tasks.adapters.crash_points import VARIABLE, CrashPoints, crash_points
from ha_tasks.ports.boundary import nobody

PROGRAM = """
import sys
from pathlib import Path
from ha_tasks.adapters.crash_points import CrashPoints
CrashPoints(Path(sys.argv[1]))("do", "take_out", "claimed")
print("went on")
"""


def executor(directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(directory)], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("word", ["", "child"])
def test_an_armed_point_kills_its_executor_once(tmp_path: Path, word: str):
    (tmp_path / "do.take_out.claimed").write_text(word)

    with executor(tmp_path) as first:
        assert first.wait(20) == -signal.SIGKILL
    with executor(tmp_path) as second:
        assert second.communicate(timeout=20)[0] == "went on\n"

    assert [path.name for path in tmp_path.iterdir()] == [f"do.take_out.claimed.fired-{first.pid}"]


def test_a_waiting_executor_goes_on_when_it_is_told(tmp_path: Path):
    (tmp_path / "do.take_out.claimed").write_text("wait")
    (tmp_path / "do.take_out.claimed.go").touch()

    CrashPoints(tmp_path)("do", "take_out", "claimed")

    assert (tmp_path / f"do.take_out.claimed.fired-{os.getpid()}").exists()


def test_another_boundary_stops_nobody(tmp_path: Path):
    (tmp_path / "do.take_out.claimed").touch()

    CrashPoints(tmp_path)("undo", "take_out", "claimed")

    assert (tmp_path / "do.take_out.claimed").exists()


def test_in_production_nobody_listens(tmp_path: Path):
    assert crash_points({}) is nobody
    assert isinstance(crash_points({VARIABLE: str(tmp_path)}), CrashPoints)
