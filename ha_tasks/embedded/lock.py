"""The lock of a home: one supervisor at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ha_tasks.errors import AlreadyRunning, DeadlineExceeded

BRIEF_S = 0.3
"""``is_held`` takes the lock for an instant: a taker looks for that long before it gives up."""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Holds the lock and writes our pid into it. Raises AlreadyRunning, naming the holder.

    The kernel releases it however this process ends; children do not inherit it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _try_for(descriptor, BRIEF_S):
            raise AlreadyRunning(
                f"a stack runs on {path.parent} already (pid {holder(path) or 'unknown'}): "
                f"end it with `ha-tasks demo --stop --home '{path.parent}'`, "
                "or start another one with --home DIR"
            )
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """True when some process holds it now."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _try(descriptor)
    finally:
        os.close(descriptor)


def holder(path: Path) -> int | None:
    """Pid of the process that took it last, None when unknown; meaningful only while it is held."""
    try:
        text = path.read_text().strip()
    except FileNotFoundError:
        return None
    return int(text) if text.isdigit() else None


def await_free(path: Path, timeout_s: float) -> None:
    """Returns once nobody holds it. Raises DeadlineExceeded."""
    deadline = time.monotonic() + timeout_s
    while is_held(path):
        if time.monotonic() > deadline:
            raise DeadlineExceeded(f"{path} is still held after {timeout_s:g} s by pid {holder(path)}")
        time.sleep(0.05)


def _try_for(descriptor: int, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not _try(descriptor):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True
