"""The audit chain: append-only. Each verb is one transaction; StoreUnreachable is retryable.

What a repository changes is told in its own transaction, by itself; ``append`` is for the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ha_tasks.model.audit import AuditEntry, AuditHead
from ha_tasks.model.plain import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The whole chain as of one moment. ``entries`` may be walked once, inside the context."""

    head: AuditHead
    entries: Iterator[AuditEntry]


class Audit(Protocol):
    """Who did what to what; nothing in it can be changed or taken out."""

    def append(
        self,
        *,
        actor: str,
        verb: str,
        object: str,
        now: datetime,
        before: Json | None = None,
        after: Json | None = None,
    ) -> None:
        """Adds an entry in a transaction of its own. Not idempotent. Plain JSON of known fields only."""
        ...

    def head(self) -> AuditHead:
        """The newest entry's number and hash."""
        ...

    def after(self, seq: int, limit: int) -> tuple[AuditEntry, ...]:
        """At most ``limit`` entries behind that number, oldest first. What has been answered once stays.

        Numbers follow the order of commits without gaps: an entry never appears behind a later one.
        """
        ...

    def latest(
        self,
        limit: int = 50,
        *,
        since: datetime | None = None,
        object: str | None = None,
        verb: str | None = None,
    ) -> tuple[AuditEntry, ...]:
        """The newest entries, newest first; ``verb``: that one, or all below it (``run`` -> ``run.*``)."""
        ...

    def chain(self) -> AbstractContextManager[Chain]:
        """The whole chain and its head as of one moment, to be verified."""
        ...


class AuditHeads(Protocol):
    """Heads that were written down outside the database. Raises OSError where that cannot be done."""

    def note(self, head: AuditHead, by: str, at: datetime) -> None:
        """Writes a head down so that it stays, also after a loss of power. Any number of writers."""
        ...

    def last(self) -> AuditHead:
        """The newest one lately written down."""
        ...

    def known(self) -> tuple[AuditHead, ...]:
        """Every one that was ever written down, in no order."""
        ...
