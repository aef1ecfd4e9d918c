"""Crash points: a rehearsal stops the world at a boundary of a run, by SIGKILL, once per armed point.

Armed by a file ``<phase>.<action>.<point>`` in the directory that HA_TASKS_CRASH_POINTS names; without
that variable nothing is looked for. The file is moved aside before the kill, so one file kills once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path

import psutil

from ha_tasks.ports.boundary import Boundary, nobody

VARIABLE = "HA_TASKS_CRASH_POINTS"


def crash_points(environ: Mapping[str, str]) -> Boundary:
    """The boundary listener of this process."""
    directory = environ.get(VARIABLE)
    return CrashPoints(Path(directory)) if directory else nobody


class CrashPoints:
    """Kills this process's whole worker: the process, and its parent when that is a Celery worker."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __call__(self, phase: str, action: str, point: str) -> None:
        """Does not return when the point is armed."""
        armed = self._directory / f"{phase}.{action}.{point}"
        try:
            armed.rename(armed.with_suffix(armed.suffix + f".fired-{os.getpid()}"))
        except FileNotFoundError:
            return
        _kill_worker()


def _kill_worker() -> None:
    me = psutil.Process()
    parent = me.parent()
    family = [me]
    if parent is not None and "celery" in " ".join(parent.cmdline()):
        family = [parent, *parent.children(recursive=True)]
    for process in sorted(family, key=lambda p: p.pid == me.pid):
        os.kill(process.pid, signal.SIGKILL)
