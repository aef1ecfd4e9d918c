"""Maintenance windows as they are kept. Each verb is one transaction; StoreUnreachable is retryable."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ha_tasks.model.maintenance import Weekly, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWindow:
    """A window to be: either from ``starts_at`` to ``ends_at``, or by ``rule``. See ``Window``."""

    scope: str
    actor: str
    reason: str
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    rule: Weekly | None = None


class MaintenanceBook(Protocol):
    """Windows in which nothing is recovered by itself."""

    def add(self, new: NewWindow, now: datetime) -> Window:
        """Keeps a window; answers it with its number."""
        ...

    def standing(self, now: datetime) -> tuple[Window, ...]:
        """Those that may still open, or are open, in the order in which they were added."""
        ...

    def end(self, window: int, now: datetime, actor: str) -> Window:
        """It opens no more. Idempotent: who ended it first stays named. KeyError when there is none."""
        ...
