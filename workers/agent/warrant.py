"""A warrant: leave to act for one command, with its deadline, until it is called off."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ha_tasks.errors import AgentRefused, PassingFailure
from ha_tasks.ports.host import Authority


class _Recall:
    """Set once: a later command has called this one off."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.why = ""


class Warrant:
    """Held while a command runs. A later command with more authority calls it off."""

    def __init__(self, by: Authority, *, timeout_s: float, recall: _Recall | None = None) -> None:
        self.by = by
        self._deadline = time.monotonic() + timeout_s
        self._recall = recall or _Recall()

    def call_off(self, why: str) -> None:
        """From now on every look at this warrant raises AgentRefused. Idempotent."""
        self._recall.why = self._recall.why or why
        self._recall.event.set()

    def check(self) -> None:
        """AgentRefused when the warrant was called off."""
        if self._recall.event.is_set():
            raise AgentRefused(f"called off: {self._recall.why}")

    def left_s(self) -> float:
        """Seconds until the deadline, never negative."""
        return max(0.0, self._deadline - time.monotonic())

    def within(self, timeout_s: float) -> Warrant:
        """The same leave with a nearer deadline; called off together with this one."""
        return Warrant(self.by, timeout_s=min(timeout_s, self.left_s()), recall=self._recall)

    def wait_until(self, holds: Callable[[], bool], what: str, *, every_s: float = 0.02) -> None:
        """Returns when ``holds()``; PassingFailure at the deadline, AgentRefused when called off."""
        while True:
            self.check()
            if holds():
                return
            if not self.left_s():
                raise PassingFailure(f"not in time: {what}")
            self._recall.event.wait(min(every_s, self.left_s()))

    def take(self, lock: threading.Lock, what: str) -> None:
        """Acquires ``lock`` under this warrant's deadline."""
        self.wait_until(lambda: lock.acquire(timeout=0.02), what, every_s=0.0)
