"""A warrant: leave to act for one command, with its deadline, until it is called off."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ha_tasks.errors import AgentRefused, PassingFailure
from ha_tasks.ports.host import Authority


class Warrant:
    """Held while a command runs. A later command with more authority calls it off."""

    def __init__(self, by: Authority, *, timeout_s: float) -> None:
        self.by = by
        self._deadline = time.monotonic() + timeout_s
        self._called_off = threading.Event()
        self._why = ""

    def call_off(self, why: str) -> None:
        """From now on every look at this warrant raises AgentRefused. Idempotent."""
        self._why = self._why or why
        self._called_off.set()

    def check(self) -> None:
        """AgentRefused when the warrant was called off."""
        if self._called_off.is_set():
            raise AgentRefused(f"called off: {self._why}")

    def left_s(self) -> float:
        """Seconds until the deadline, never negative."""
        return max(0.0, self._deadline - time.monotonic())

    def wait_until(self, holds: Callable[[], bool], what: str, *, every_s: float = 0.02) -> None:
        """Returns when ``holds()``; PassingFailure at the deadline, AgentRefused when called off."""
        while True:
            self.check()
            if holds():
                return
            if not self.left_s():
                raise PassingFailure(f"not in time: {what}")
            self._called_off.wait(min(every_s, self.left_s()))

    def take(self, lock: threading.Lock, what: str) -> None:
        """Acquires ``lock`` under this warrant's deadline."""
        self.wait_until(lambda: lock.acquire(timeout=0.02), what, every_s=0.0)
