"""One running child of the supervisor: its log, its end, its leftovers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ha_tasks.embedded import launch, logs
from ha_tasks.embedded.process import Process
from ha_tasks.embedded.warm import Nursery, WarmProcess

KILL_TIMEOUT_S = 5.0


class Child:
    """A child process in a session of its own. ``pid`` is also its process group."""

    def __init__(self, process: Process, running: asyncio.subprocess.Process | WarmProcess) -> None:
        self.process = process
        self._running = running

    @classmethod
    async def spawn(
        cls, process: Process, *, cwd: Path, environment: Mapping[str, str], nursery: Nursery | None
    ) -> Child:
        """Starts it. Must be called from the main thread: the kernel ties the child to the calling thread.

        A warm process comes out of the nursery while there is one.
        """
        logs.begin(process.log, process.name)
        if process.warm and nursery and nursery.pid is not None:
            warm = await nursery.start(process.command, environment=process.environment, log=process.log)
            return cls(process, warm)
        with process.log.open("ab") as log:
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
    def has_ended(self) -> bool:
        """True once it has ended."""
        if isinstance(self._running, WarmProcess):
            return self._running.has_ended
        return self._running.returncode is not None

    async def wait(self) -> int:
        """Until it ended and is reaped; answers its exit status, negative for a signal."""
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
        with suppress(ProcessLookupError):
            self._running.send_signal(signal.SIGKILL)
        self.kill_leftovers()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.wait(), KILL_TIMEOUT_S)

    def kill_leftovers(self) -> None:
        """SIGKILL for what is left of its process group: pool children outlive a killed Celery worker."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def last_words(self, lines: int = 12) -> str:
        """The last lines of its log, indented, without the start's own line."""
        return logs.last_lines(self.process.log, lines)
