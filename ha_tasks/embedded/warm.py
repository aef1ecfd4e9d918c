"""Processes out of the nursery, as the supervisor handles them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ha_tasks.embedded import logs
from ha_tasks.embedded.nursery import ROOM
from ha_tasks.errors import StartFailed

ANSWER_TIMEOUT_S = 60.0
"""The first answer waits for the imports."""


class Nursery:
    """Starts the nursery when it is first needed; it ends with the supervisor, or by ``close``."""

    def __init__(
        self, modules: tuple[str, ...], *, cwd: Path, environment: Mapping[str, str], log: Path
    ) -> None:
        self._modules = modules
        self._cwd = cwd
        self._environment = environment
        self._log = log
        self._turn = asyncio.Lock()
        self._running: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Its pid while it runs."""
        running = self._running
        return running.pid if running and running.returncode is None else None

    async def open(self) -> None:
        """Returns at once, while it imports; idempotent.

        Unlike other children it is not killed with us: the end of its input tells it, and it then ends
        its own children first.
        """
        if self._running is not None:
            return
        logs.begin(self._log, "nursery")
        with self._log.open("ab") as log:
            self._running = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "ha_tasks.embedded.nursery", *self._modules, ROOM),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=self._cwd,
                env=dict(self._environment),
                start_new_session=True,
            )

    async def ready(self) -> None:
        """Returns once it has imported. Raises StartFailed."""
        async with self._turn:
            await self._answer()

    async def start(
        self, command: tuple[str, ...], *, environment: Mapping[str, str], log: Path
    ) -> WarmProcess:
        """Has it become ``python -m MODULE ...``, which is what ``command`` must be. Raises StartFailed."""
        _, option, module, *arguments = command
        if option != "-m":
            raise ValueError(f"the nursery only runs modules, not {command}")
        request = {
            "module": module,
            "arguments": arguments,
            "environment": dict(environment),
            "cwd": str(self._cwd),
            "log": str(log),
        }
        pid = int((await self._ask({"start": request}))["pid"])
        return WarmProcess(pid, self)

    async def status_of(self, pid: int) -> int:
        """Exit status of one that has ended; 0 when nobody knows it any more."""
        try:
            return int((await self._ask({"status_of": pid}))["status"] or 0)
        except StartFailed:
            return 0

    async def close(self) -> None:
        """Ends it, and what is left of its children. Idempotent."""
        running = self._running
        if running is None or running.stdin is None:
            return
        running.stdin.close()
        await running.wait()

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        async with self._turn:
            running = self._running
            if running is None or running.stdin is None or running.returncode is not None:
                raise StartFailed(self._trouble("has ended"))
            running.stdin.write(json.dumps(request).encode() + b"\n")
            return await self._answer()

    async def _answer(self) -> dict[str, Any]:
        running = self._running
        if running is None or running.stdout is None:
            raise StartFailed("the nursery was not opened")
        try:
            line = await asyncio.wait_for(running.stdout.readline(), ANSWER_TIMEOUT_S)
        except TimeoutError as error:
            raise StartFailed(self._trouble("does not answer")) from error
        if not line:
            raise StartFailed(self._trouble("has ended"))
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _trouble(self, what: str) -> str:
        return f"the nursery {what}; its log is {self._log}\n{logs.last_lines(self._log, 12)}"


class WarmProcess:
    """What the supervisor needs of a process, of one whose parent is the nursery: by its pidfd."""

    def __init__(self, pid: int, nursery: Nursery) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._nursery = nursery
        self._ended = asyncio.Event()
        self._descriptor = -1
        try:
            self._descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            self._ended.set()
        else:
            asyncio.get_running_loop().add_reader(self._descriptor, self._end)

    @property
    def has_ended(self) -> bool:
        """True once it is dead, reaped or not."""
        return self._ended.is_set()

    async def wait(self) -> int:
        """Until it has ended; answers its status."""
        await self._ended.wait()
        if self.returncode is None:
            self.returncode = await self._nursery.status_of(self.pid)
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Raises ProcessLookupError when it has ended."""
        if self.has_ended:
            raise ProcessLookupError(self.pid)
        signal.pidfd_send_signal(self._descriptor, number)

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._ended.set()
