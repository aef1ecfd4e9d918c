"""A deadline: one budget of time that connecting, sending and reading share."""

from __future__ import annotations

from ha_tasks.ports.clock import Clock


class Deadline:
    """Made ``timeout_s`` seconds ahead; an operation asks it how long it may still wait."""

    def __init__(self, clock: Clock, timeout_s: float) -> None:
        self._clock = clock
        self._end = clock.monotonic() + timeout_s

    def left_s(self) -> float:
        """Seconds left, always more than 0. Raises TimeoutError when there are none."""
        left = self._end - self._clock.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left

    @property
    def passed(self) -> bool:
        """True when nothing is left."""
        return self._clock.monotonic() >= self._end
