"""The supervisor's hold on its reaper: a pipe that the kernel closes when the supervisor ends."""

from __future__ import annotations

import select
import subprocess
import sys
from pathlib import Path

from ha_tasks.embedded import reaper
from ha_tasks.embedded.logs import last_lines
from ha_tasks.embedded.reaper import sweep
from ha_tasks.errors import StartFailed

DISMISS_TIMEOUT_S = 5.0
WATCH_TIMEOUT_S = 8.0


class Guard:
    """A reaper that watches over this process. Only this process has the pipe's writing end."""

    def __init__(self, home: Path, stack: str, log: Path) -> None:
        self._home = home
        self._stack = stack
        self._log = log
        self._reaper = self._spawn()

    @property
    def pid(self) -> int:
        """The reaper's pid."""
        return self._reaper.pid

    def renew(self) -> bool:
        """Starts another reaper when this one has ended; True when it did. Idempotent."""
        if self._reaper.poll() is None:
            return False
        for pipe in (self._reaper.stdin, self._reaper.stdout):
            if pipe:
                pipe.close()
        self._reaper = self._spawn()
        return True

    def dismiss(self) -> set[int]:
        """Ends what is left of the stack here and now, then lets the reaper go; answers pids still left."""
        left = sweep(self._home, self._stack)
        try:
            self._reaper.communicate(b"done", timeout=DISMISS_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._reaper.kill()
            self._reaper.wait(DISMISS_TIMEOUT_S)
        return left

    def _spawn(self) -> subprocess.Popen[bytes]:
        # Without the stack's mark in its environment, or it would end itself first.
        with self._log.open("ab") as log:
            spawned = subprocess.Popen(
                [sys.executable, "-I", "-S", reaper.__file__, str(self._home), self._stack],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        if not _says_that_it_watches(spawned):
            spawned.kill()
            spawned.communicate()
            raise StartFailed(f"the reaper does not work; its log is {self._log}\n{last_lines(self._log, 5)}")
        return spawned


def _says_that_it_watches(spawned: subprocess.Popen[bytes]) -> bool:
    output = spawned.stdout
    if output is None or not select.select([output], [], [], WATCH_TIMEOUT_S)[0]:
        return False
    return output.readline() == reaper.WATCHING
