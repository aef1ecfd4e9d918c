"""The reaper: ends whatever belongs to a stack whose supervisor is gone without having stopped it.

Run as ``python -I -S reaper.py HOME STACK``; stdlib only, alone in its session. It reads its standard
input, a pipe of which only the supervisor has the other end: the kernel closes it however the supervisor
ends (a pidfd would do the same, but not on old kernels). The word ``done`` before the end says that
there is nothing left to do.

What belongs to a stack: a process with ``HA_TASKS_STACK=<its id>`` in its environment, the descendants
of one, and a PostgreSQL program that works in a data directory of the home (PostgreSQL leaves sessions,
process groups and parents).
"""

import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

WATCHING = b"watching\n"
"""Said once the lock is held: from then on no other start can overtake this reaper."""

MARK = b"HA_TASKS_STACK="
POSTGRES_PROGRAMS = ("postgres", "postmaster")
GRACE_S = 1.5
"""After SIGTERM, until SIGKILL. Both together leave room below 4 s."""

GONE_S = 2.0
LOCK_S = 5.0


def main(arguments: list[str]) -> None:
    """Waits for the supervisor's end; ends its stack unless it said that it did so itself."""
    home, stack = Path(arguments[0]), arguments[1]
    lock = os.open(home / "reaper.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not _locked(lock, LOCK_S):
        sys.exit("another reaper is still at work on this home")
    os.write(1, WATCHING)
    last_words = sys.stdin.buffer.read()
    if last_words.strip() != b"done":
        left = sweep(home, stack)
        sys.exit(f"left running: {sorted(left)}" if left else 0)


def sweep(home: Path, stack: str | None, grace_s: float = GRACE_S) -> set[int]:
    """Ends everything that belongs to the stack; answers the pids that are left, normally none.

    SIGTERM (a postmaster gets SIGINT, a fast shutdown, and ends its own), after ``grace_s`` SIGKILL.
    ``stack`` None: only the PostgreSQL programs of the home. Never this process or its ancestors. Idempotent.
    """
    for pid in members(home, stack):
        if number := _polite(pid):
            _send(pid, number)
    if _gone(home, stack, grace_s):
        return set()
    deadline = time.monotonic() + GONE_S
    while (left := members(home, stack)) and time.monotonic() < deadline:
        # Again and again: what is killed may have been starting something.
        for pid in left:
            _send(pid, signal.SIGKILL)
        time.sleep(0.05)
    return left


def members(home: Path, stack: str | None) -> set[int]:
    """Pids of the living processes that belong to the stack, by what /proc says now."""
    nodes = str((home / "nodes").resolve()) + os.sep
    parents = {pid: parent for pid in _pids() if (parent := _parent(pid)) is not None}
    marked = {pid for pid in parents if (stack and _is_marked(pid, stack)) or is_postgres_below(pid, nodes)}
    return _with_descendants(marked, parents) - set(_ancestors(os.getpid(), parents))


def is_postgres_below(pid: int, directory: str) -> bool:
    """True for a PostgreSQL server process whose working directory lies below ``directory``."""
    try:
        if not str(Path(f"/proc/{pid}/cwd").readlink()).startswith(directory):
            return False
        # Not whatever else works there: somebody's shell may.
        return _program(pid) in POSTGRES_PROGRAMS
    except OSError:
        return False


def descendants(pid: int) -> set[int]:
    """Children, their children and so on, by what /proc says now; without ``pid`` itself."""
    parents = {other: parent for other in _pids() if (parent := _parent(other)) is not None}
    return _with_descendants({pid}, parents) - {pid}


def _with_descendants(roots: Iterable[int], parents: dict[int, int]) -> set[int]:
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    left = list(roots)
    while left:
        pid = left.pop()
        if pid not in found:
            found.add(pid)
            left += children.get(pid, [])
    return found


def _ancestors(pid: int, parents: dict[int, int]) -> Iterator[int]:
    while pid in parents:
        yield pid
        pid = parents[pid]


def _gone(home: Path, stack: str | None, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while members(home, stack):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _locked(descriptor: int, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        else:
            return True


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _program(pid: int) -> str:
    """Raises OSError for a process that is gone or not ours to look at."""
    return Path(f"/proc/{pid}/exe").readlink().name.removesuffix(" (deleted)")


def _parent(pid: int) -> int | None:
    """None for a process that is gone, or dead and not yet reaped."""
    try:
        # The name in parentheses may itself hold blanks and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[1])


def _is_marked(pid: int, stack: str) -> bool:
    try:
        return MARK + stack.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _polite(pid: int) -> signal.Signals | None:
    """SIGTERM has a postmaster wait for its clients, and one for its children looks to it like a crash."""
    try:
        if _program(pid) not in POSTGRES_PROGRAMS:
            return signal.SIGTERM
        first_line = Path(f"/proc/{pid}/cwd/postmaster.pid").read_text().partition("\n")[0]
    except OSError:
        return None
    return signal.SIGINT if first_line.strip() == str(pid) else None


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    main(sys.argv[1:])
