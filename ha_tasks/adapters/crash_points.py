"""Crash points: a rehearsal stops the world at a boundary of a run, once per armed point.

Armed by a file ``<phase>.<action>.<point>`` in the directory that HA_TASKS_CRASH_POINTS names; without
that variable nothing is looked for. The file is moved aside first, to ``....fired-<pid>``, so one file
stops one executor once. What the file says is what happens:

================  =================================================================================
(nothing)         SIGKILL to the whole worker: this process, its parent and the parent's other children
``child``         SIGKILL to this process alone
``wait``          waits until the file ``....go`` is there: the rehearsal stops something meanwhile
================  =================================================================================
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from ha_tasks.ports.boundary import Boundary, nobody

VARIABLE = "HA_TASKS_CRASH_POINTS"
WAIT_S = 20.0
"""A rehearsal that died must not hold an executor for ever."""


def crash_points(environ: Mapping[str, str]) -> Boundary:
    """The boundary listener of this process."""
    directory = environ.get(VARIABLE)
    return CrashPoints(Path(directory)) if directory else nobody


class CrashPoints:
    """Does what an armed point says; see the module's first lines."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __call__(self, phase: str, action: str, point: str) -> None:
        """Does not return when the point kills."""
        armed = self._directory / f"{phase}.{action}.{point}"
        fired = armed.with_name(f"{armed.name}.fired-{os.getpid()}")
        try:
            armed.rename(fired)
        except FileNotFoundError:
            return
        match fired.read_text().strip():
            case "child":
                os.kill(os.getpid(), signal.SIGKILL)
            case "wait":
                _wait_for(armed.with_name(f"{armed.name}.go"))
            case _:
                _kill_worker()


def _kill_worker() -> None:
    """This process last, so that none of the others goes on without it."""
    me = psutil.Process()
    parent = me.parent()
    family = [me]
    if parent is not None and "celery" in " ".join(parent.cmdline()):
        family = [parent, *parent.children(recursive=True)]
    for process in sorted(family, key=lambda p: p.pid == me.pid):
        os.kill(process.pid, signal.SIGKILL)


def _wait_for(file: Path) -> None:
    ends = time.monotonic() + WAIT_S
    while not file.exists() and time.monotonic() < ends:
        time.sleep(0.005)  # the condition is looked at again at once
