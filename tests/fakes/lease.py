"""A lease that needs no renewing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ha_tasks.model.run import Run


class FakeLeaseKeeper:
    """See ports/lease.py."""

    @contextmanager
    def keep(self, run: Run) -> Iterator[Callable[[], bool]]:
        yield lambda: False
