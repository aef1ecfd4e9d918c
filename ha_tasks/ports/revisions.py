"""Applied revisions of the inventory. Each verb is one transaction; StoreUnreachable is retryable."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from ha_tasks.model.plain import Facts
from ha_tasks.model.revision import Change, Revision


class Revisions(Protocol):
    """Numbered from 1 without gaps; nothing of them is ever changed."""

    def newest(self) -> Revision | None:
        """The applied one; None before the first."""
        ...

    def get(self, no: int) -> Revision:
        """KeyError when there is none."""
        ...

    def place(self, sha256: str) -> tuple[int | None, int | None]:
        """(newest revision with that content, newest of all); None where there is none."""
        ...

    def apply(
        self,
        body: Facts,
        changes: Sequence[Change],
        *,
        actor: str,
        reason: str,
        now: datetime,
        onto: int | None,
    ) -> Revision:
        """Adds the next one, if ``onto`` still is the newest (None: there is none).

        Idempotent: the content of the newest again is that one. Raises RevisionConflict when somebody
        else has applied another meanwhile.
        """
        ...
