"""Boundaries of a run, at which a rehearsal may stop the world."""

from __future__ import annotations

from typing import Protocol


class Boundary(Protocol):
    """Told of each boundary that an executor passes; in production nobody listens."""

    def __call__(self, phase: str, action: str, point: str) -> None:
        """``point``: claimed, captured, done, settled, sent."""
        ...


def nobody(phase: str, action: str, point: str) -> None:
    """The boundary of production."""
