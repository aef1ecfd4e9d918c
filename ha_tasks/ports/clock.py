"""Time."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """The only source of time; nothing else asks the system for it."""

    def now(self) -> datetime:
        """Aware UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def pause(self, seconds: float) -> None:
        """Lets ``seconds`` pass between two looks at a condition; never used as the condition."""
        ...
