"""PostgreSQL's command-line programs, run under a warrant: called off, they are killed."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryFile

from ha_tasks.errors import ActionFailed, HaTasksError
from workers.agent.instance import Instance
from workers.agent.ledger import Ledger
from workers.agent.postmaster import clean_environment
from workers.agent.warrant import Warrant


class Tools:
    """Runs a program in a session of its own, in the directory that it works on.

    The directory is what a later fence, also one by a restarted agent, finds it by.
    """

    def __init__(self, instance: Instance, ledger: Ledger, warrant: Warrant) -> None:
        self._instance = instance
        self._ledger = ledger
        self._warrant = warrant

    def run(
        self,
        name: str,
        *arguments: str,
        cwd: Path,
        meanwhile: Callable[[], None] = lambda: None,
        every_s: float = math.inf,
    ) -> str:
        """What it wrote. ActionFailed with its last words, AgentRefused when the command is called off.

        ``meanwhile`` is called ``every_s`` seconds while it runs; it must be quick, for so long nobody sees
        that the command was called off.
        """
        command = [*self._instance.config.run_as, self._instance.program(name), *arguments]
        with TemporaryFile() as output:
            with self._ledger.acting(self._warrant):
                process = self._started(command, cwd, output.fileno())
            self._wait(process, name, now_and_then(meanwhile, every_s))
            output.seek(0)
            text = output.read().decode(errors="replace")
        if process.returncode != 0:
            raise ActionFailed(f"{name} ended with {process.returncode}: {_last_lines(text)}")
        return text

    def _started(self, command: Sequence[str], cwd: Path, output: int) -> subprocess.Popen[bytes]:
        environment = {**clean_environment(), "PGPASSFILE": str(self._instance.config.passfile)}
        return subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def _wait(self, process: subprocess.Popen[bytes], name: str, meanwhile: Callable[[], None]) -> None:
        def has_ended() -> bool:
            if process.poll() is not None:
                return True
            meanwhile()
            return False

        try:
            self._warrant.wait_until(has_ended, f"{name} ends")
        except HaTasksError:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=5.0)
            raise


def now_and_then(work: Callable[[], None], every_s: float) -> Callable[[], None]:
    """``work``, left out when it was done less than ``every_s`` ago; not at the first call either."""
    last = time.monotonic()

    def maybe() -> None:
        nonlocal last
        if time.monotonic() - last >= every_s:
            work()
            last = time.monotonic()

    return maybe


def _last_lines(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-3:])[-600:] or "it said nothing"
