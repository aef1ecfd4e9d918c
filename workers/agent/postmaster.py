"""The postmaster: started detached, watched by its pidfd, killed with all its children.

PostgreSQL is no child in spirit: it lives on when the agent dies, and a restarted agent adopts it.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from ha_tasks.errors import PassingFailure
from ha_tasks.ports.host import Postmaster as State
from workers.agent import processes

_LEFTOVERS_S = 5.0
_STATUS_LINE = 7
"""Of postmaster.pid, counted from 0 (since PostgreSQL 10)."""


class Postmaster:
    """The one postmaster of ``data_dir``."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._lock = threading.RLock()
        self._pid: int | None = None
        self._ours: subprocess.Popen[bytes] | None = None
        self._ran = False
        self._dirty: int | None = None  # the postmaster whose children may still be alive after it

    @property
    def state(self) -> State:
        """RUNNING, EXITED (it ran under our watch), or ABSENT."""
        if self.pid is not None:
            return State.RUNNING
        return State.EXITED if self._ran else State.ABSENT

    @property
    def pid(self) -> int | None:
        """Pid while it runs, also when somebody else has started it meanwhile."""
        if self._pid is None and self._lock.acquire(blocking=False):
            try:
                self._take_under_watch()
            finally:
                self._lock.release()
        return self._pid

    def adopt(self) -> bool:
        """Takes a running postmaster under watch, at the agent's start. Kills what a dead one left."""
        with self._lock:
            if self._take_under_watch():
                return True
            if processes.holders(self._data_dir):
                self._kill_leftovers()
            return False

    def spawn(self, command: Sequence[str], *, log: Path) -> None:
        """Starts it in a session of its own; returns at once. Without effect while one runs.

        Its working directory is PGDATA from the first moment, so that a fence finds it in any state.
        """
        with self._lock:
            if self.pid is not None:
                return
            self._clean_up(timeout_s=_LEFTOVERS_S)
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as output:
                started = subprocess.Popen(  # it is waited for in _await_exit
                    command,
                    cwd=self._data_dir,
                    env=clean_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            self._watch(started.pid, ours=started)

    def kill_tree(self, *, timeout_s: float) -> None:
        """SIGKILL for every process of PGDATA; returns when none is left. Idempotent."""
        with self._lock:
            self._clean_up(timeout_s=timeout_s)
            self._forget(self._pid)

    def stop_fast(self, *, timeout_s: float) -> None:
        """A clean shutdown, so that the control file is consistent; SIGKILL when it takes too long."""
        pid = self._pid
        if pid is not None and processes.send(pid, signal.SIGINT):
            _exited(pid, timeout_s)
        self.kill_tree(timeout_s=_LEFTOVERS_S)

    def await_exit(self, timeout_s: float) -> State:
        """Its state as soon as none runs (any more), or once the time is over."""
        pid = self.pid
        if pid is not None and _exited(pid, timeout_s):
            self._forget(pid)
        return self.state

    def says_open(self) -> bool:
        """True once its lock file says that it takes sessions; asking it before only fills its log."""
        return self._says() in {"ready", "standby"}

    def says_stopping(self) -> bool:
        """True while its lock file says that it shuts down, which cannot be called back."""
        return self._says() == "stopping"

    def stopped(self) -> str:
        """Which processes a signal keeps from running: ``the postmaster``, ``every process``, or ``""``."""
        pid = self._pid
        if pid is None or not processes.is_stopped(pid):
            return ""
        everybody = all(map(processes.is_stopped, processes.holders(self._data_dir)))
        return "every process" if everybody else "the postmaster"

    def children(self) -> frozenset[int]:
        """Pids of the postmaster's own children."""
        return frozenset(p for p in processes.holders(self._data_dir) if processes.parent(p) == self._pid)

    def _clean_up(self, *, timeout_s: float) -> None:
        processes.kill_holders(self._data_dir, timeout_s=timeout_s)
        self._reap()
        # A lock file of the dead makes pg_rewind and the next start hesitate.
        (self._data_dir / "postmaster.pid").unlink(missing_ok=True)
        self._dirty = None

    def _watch(self, pid: int, *, ours: subprocess.Popen[bytes] | None) -> None:
        self._pid, self._ours, self._ran, self._dirty = pid, ours, True, pid
        threading.Thread(target=self._await_exit, args=(pid,), daemon=True, name=f"watch-{pid}").start()

    def _await_exit(self, pid: int) -> None:
        """Backends can acknowledge for up to 0.3 s after their postmaster is gone: they go with it."""
        _exited(pid, None)
        self._forget(pid)
        with self._lock:
            if self._dirty == pid:  # otherwise a fence was here first, and a rewind may be at work by now
                self._kill_leftovers()

    def _kill_leftovers(self) -> None:
        try:
            self._clean_up(timeout_s=_LEFTOVERS_S)
        except PassingFailure:
            return  # stuck in the kernel: the next fence or start tries again, and says so

    def _forget(self, pid: int | None) -> None:
        """Without the lock: the end must be seen at once, also while somebody else kills the rest."""
        if pid is not None and self._pid == pid:
            self._pid = None

    def _reap(self) -> None:
        if self._ours is not None and self._ours.poll() is not None:
            self._ours = None

    def _take_under_watch(self) -> bool:
        """True when a living postmaster was found that nobody watched."""
        pid = self._pid_in_file()
        if self._pid is not None or pid is None or not processes.holds(pid, self._data_dir):
            return False
        self._watch(pid, ours=None)
        return True

    def _pid_in_file(self) -> int | None:
        lines = self._lock_file()
        return int(lines[0]) if lines and lines[0].strip().isdigit() else None

    def _says(self) -> str:
        lines = self._lock_file()
        return lines[_STATUS_LINE].strip() if len(lines) > _STATUS_LINE else ""

    def _lock_file(self) -> list[str]:
        try:
            return (self._data_dir / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []


def clean_environment() -> dict[str, str]:
    """The agent's environment without libpq's variables, and with messages that can be parsed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C"}


def _exited(pid: int, timeout_s: float | None) -> bool:
    """True once the process is gone; False when it is still there after ``timeout_s``."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        return bool(poller.poll(None if timeout_s is None else timeout_s * 1000))
    finally:
        os.close(descriptor)
