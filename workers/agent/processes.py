"""Processes as /proc shows them. A zombie is nobody: its working directory cannot be read any more.

The kernel takes a dying process's files and sockets away before its working directory, so a process
without one can neither write nor acknowledge anything.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from ha_tasks.errors import PassingFailure

_PROC = Path("/proc")


def holders(directory: Path) -> frozenset[int]:
    """Pids of all living processes whose working directory is ``directory``; never our own."""
    wanted = os.path.realpath(directory)
    return frozenset(pid for pid in _pids() if pid != os.getpid() and _link(pid, "cwd") == wanted)


def holds(pid: int, directory: Path) -> bool:
    """True when that process lives and ``directory`` is its working directory."""
    return _link(pid, "cwd") == os.path.realpath(directory)


def kill_holders(directory: Path, *, timeout_s: float) -> None:
    """SIGKILL for all holders of ``directory``; returns when two looks find none. Idempotent.

    PassingFailure when some are left at the deadline (stuck in the kernel, for example on a dead disk).
    """
    deadline = time.monotonic() + timeout_s
    empty_looks = 0
    while empty_looks < 2:
        left = holders(directory)
        empty_looks = 0 if left else empty_looks + 1
        for pid in left:
            send(pid, signal.SIGKILL)
        if left and time.monotonic() > deadline:
            raise PassingFailure(f"processes {sorted(left)} of {directory} do not die")
        if left:
            time.sleep(0.003)  # the condition is looked at again at once; this only lets them die


def send(pid: int, signal_number: int) -> bool:
    """Sends a signal; False when the process is gone already."""
    try:
        os.kill(pid, signal_number)
    except ProcessLookupError:
        return False
    return True


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None when it is gone or a zombie.

    Together with the pid it names a process for good, for pids are used again.
    """
    fields = _stat(pid)
    return None if fields is None or fields[0] in {"Z", "X"} else int(fields[19])


def is_stopped(pid: int) -> bool:
    """True while a signal (SIGSTOP) keeps it from running; a debugger's stop is another one."""
    fields = _stat(pid)
    return fields is not None and fields[0] == "T"


def parent(pid: int) -> int | None:
    """Pid of the parent; None when the process is gone."""
    fields = _stat(pid)
    return None if fields is None else int(fields[1])


def title(pid: int) -> str:
    """The command line, as PostgreSQL sets it for its processes; empty when it is gone."""
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()


def with_environment(settings: dict[str, str]) -> frozenset[int]:
    """Pids of the living processes that were started with all these environment variables."""
    wanted = {f"{name}={value}".encode() for name, value in settings.items()}
    return frozenset(pid for pid in _pids() if wanted <= set(_read(pid, "environ").split(b"\0")))


def environment(pid: int) -> dict[str, str]:
    """The environment with which the process was started; empty when it is gone."""
    pairs = (entry.decode(errors="replace").partition("=") for entry in _read(pid, "environ").split(b"\0"))
    return {name: value for name, sign, value in pairs if sign}


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir(_PROC) if name.isdigit())  # noqa: PTH208 (ten times faster)


def _link(pid: int, name: str) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/{name}")  # noqa: PTH115 (ten times faster)
    except OSError:
        return None  # gone, a zombie, a kernel thread, or another user's


def _read(pid: int, name: str) -> bytes:
    try:
        return (_PROC / str(pid) / name).read_bytes()
    except OSError:
        return b""


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the command's name, which may hold blanks: state first."""
    text = _read(pid, "stat").decode(errors="replace")
    return text.rpartition(") ")[2].split() if text else None
