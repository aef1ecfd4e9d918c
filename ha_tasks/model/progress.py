"""How far a long step is: what is being done, and of how many bytes how many are there. Pure values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from ha_tasks.model.plain import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """``doing``: in words. ``done_bytes`` of ``of_bytes``; None: not measured, or not known yet."""

    doing: str
    done_bytes: int | None = None
    of_bytes: int | None = None

    @property
    def percent(self) -> int | None:
        """Never over 100: what is copied may grow beyond what it was estimated to be."""
        if self.done_bytes is None or not self.of_bytes:
            return None
        return min(100, self.done_bytes * 100 // self.of_bytes)

    def to_json(self) -> Json:
        """What is known of it, as plain JSON."""
        known = {"doing": self.doing, "done_bytes": self.done_bytes, "of_bytes": self.of_bytes}
        return {
            name: value for name, value in {**known, "percent": self.percent}.items() if value is not None
        }


Tell: TypeAlias = Callable[[Progress], None]
"""Takes note of how far the work is; the latest word stands."""


def progress_in(told: Json) -> Progress | None:
    """What ``to_json`` made; None for anything else, also for what a later version may say."""
    doing, done, of = (told.get(name) for name in ("doing", "done_bytes", "of_bytes"))
    if not isinstance(doing, str):
        return None
    return Progress(
        doing=doing,
        done_bytes=done if isinstance(done, int) else None,
        of_bytes=of if isinstance(of, int) else None,
    )
