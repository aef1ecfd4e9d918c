"""The system's clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class SystemClock:
    """See ports/clock.py."""

    def now(self) -> datetime:
        """Aware UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds on CLOCK_MONOTONIC."""
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        """Sleeps; a negative duration is none."""
        time.sleep(max(0.0, seconds))


SYSTEM_CLOCK = SystemClock()
"""It has no state, so one is enough."""
