"""One running child of the supervisor: its log, its end, its leftovers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from ha_tasks.embedded import launch
from ha_tasks.embedded.process import Process

LOG_LIMIT_BYTES = 20 * 1024 * 1024
"""A log longer than that is put aside (``.1``) at the next start of its process."""

KILL_TIMEOUT_S = 5.0


class Child:
    """A child process in a session of its own. ``pid`` is also its process group."""

    def __init__(self, process: Process, running: asyncio.subprocess.Process) -> None:
        self.process = process
        self._running = running

    @classmethod
    async def spawn(cls, process: Process, cwd: Path, environment: Mapping[str, str]) -> Child:
        """Starts it. Must be called from the main thread: the kernel ties the child to the calling thread."""
        _put_aside(process.log)
        with process.log.open("ab") as log:
            log.write(f"=== {process.name} starts, {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n".encode())
            log.flush()
            running = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), *process.command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                cwd=cwd,
                env={**environment, **process.environment},
                start_new_session=True,
            )
        return cls(process, running)

    @property
    def pid(self) -> int:
        """The pid; stays after the end."""
        return self._running.pid

    @property
    def status(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self._running.returncode

    async def wait(self) -> int:
        """Until it ended and is reaped; answers its status."""
        return await self._running.wait()

    async def stop(self) -> bool:
        """Asks it to end, kills it and its group when it does not in time. True when it ended by itself."""
        with suppress(ProcessLookupError):
            self._running.send_signal(self.process.stop_signal)
        try:
            await asyncio.wait_for(self.wait(), self.process.stop_timeout_s)
        except TimeoutError:
            await self.kill()
            return False
        self.kill_leftovers()
        return True

    async def kill(self) -> None:
        """SIGKILL for the whole group, and reaps the child.

        What even that does not end in time (it hangs in the kernel) is left to the kernel.
        """
        self.kill_leftovers()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.wait(), KILL_TIMEOUT_S)

    def kill_leftovers(self) -> None:
        """SIGKILL for what is left of its process group: pool children outlive a killed Celery worker."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def last_words(self, lines: int = 12) -> str:
        """The last lines of its log, indented, without the start's own line."""
        return last_lines(self.process.log, lines)


def last_lines(log: Path, lines: int) -> str:
    """The last lines of a log since the latest start; empty when it is missing or empty."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16384))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    found = text.splitlines()
    starts = [number for number, line in enumerate(found) if line.startswith("=== ")]
    since_start = found[starts[-1] + 1 :] if starts else found
    return "\n".join("    " + line for line in since_start[-lines:] if line.strip())


def _put_aside(log: Path) -> None:
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".log.1"))
