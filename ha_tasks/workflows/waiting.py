"""Waiting for a condition, with a deadline."""

from __future__ import annotations

from collections.abc import Callable

from ha_tasks.errors import DeadlineExceeded
from ha_tasks.ports.clock import Clock


def wait_until(
    condition: Callable[[], bool],
    *,
    clock: Clock,
    within_s: float,
    what: str,
    every_s: float = 0.05,
) -> None:
    """Returns once the condition holds; DeadlineExceeded says what was waited for, and how long."""
    ends = clock.monotonic() + within_s
    while not condition():
        if clock.monotonic() >= ends:
            raise DeadlineExceeded(f"{what}: not within {within_s:.1f} s")
        clock.pause(every_s)
