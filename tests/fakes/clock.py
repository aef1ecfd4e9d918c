"""A clock that only moves when it is told to, or when somebody pauses."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


class FakeClock:
    """See ports/clock.py. ``on_pause`` is called after each pause: the world may change meanwhile."""

    def __init__(self, start: datetime = START) -> None:
        self.start = start
        self.elapsed_s = 0.0
        self.on_pause: Callable[[], None] = lambda: None

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.elapsed_s)

    def monotonic(self) -> float:
        return self.elapsed_s

    def pause(self, seconds: float) -> None:
        self.advance(seconds)
        self.on_pause()

    def advance(self, seconds: float) -> None:
        self.elapsed_s += seconds
