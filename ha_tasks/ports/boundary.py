"""Boundaries of a run, at which a rehearsal may stop the world."""

from __future__ import annotations

from typing import Protocol


class Boundary(Protocol):
    """Told of each boundary that an executor passes; in production nobody listens."""

    def __call__(self, phase: str, action: str, point: str) -> None:
        """``point``: offered, claimed, captured, applied, done, settled, sent.

        ``offered`` comes before the claim, when the action is not known yet: there ``action`` is the
        step's number.
        """
        ...


def nobody(phase: str, action: str, point: str) -> None:
    """The boundary of production."""
