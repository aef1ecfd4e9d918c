"""Keeping a lease alive while a step is being taken."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from ha_tasks.model.run import Run


class LeaseKeeper(Protocol):
    """Renews a run's lease in the background, every third of it."""

    def keep(self, run: Run) -> AbstractContextManager[Callable[[], bool]]:
        """Renews until the block ends; the callable says whether the lease was lost meanwhile."""
        ...
