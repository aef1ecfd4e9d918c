"""The audit chain in a list."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from threading import RLock

from ha_tasks.model.audit import AuditEntry, AuditHead, entry_after
from ha_tasks.model.deeds import Deed
from ha_tasks.model.plain import Json
from ha_tasks.ports.audit import Chain


class FakeAudit:
    """Implements ``Audit``; repositories of one fake store share it."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.entries: list[AuditEntry] = []

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
        self.record(now, Deed(actor=actor, verb=verb, object=object, before=before, after=after))

    def record(self, at: datetime, *deeds: Deed) -> None:
        """As ``store.audit.record``."""
        with self.lock:
            for deed in deeds:
                self.entries.append(entry_after(self.head(), at=at, **asdict(deed)))

    def head(self) -> AuditHead:
        with self.lock:
            last = self.entries[-1:]
            return AuditHead(seq=last[0].seq, hash=last[0].hash) if last else AuditHead()

    def after(self, seq: int, limit: int) -> tuple[AuditEntry, ...]:
        with self.lock:
            return tuple(entry for entry in self.entries if entry.seq > seq)[:limit]

    def latest(
        self,
        limit: int = 50,
        *,
        since: datetime | None = None,
        object: str | None = None,
        verb: str | None = None,
    ) -> tuple[AuditEntry, ...]:
        with self.lock:
            found = (
                entry
                for entry in reversed(self.entries)
                if (since is None or entry.at >= since)
                and object in (None, entry.object)
                and (verb is None or entry.verb == verb or entry.verb.startswith(f"{verb}."))
            )
            return tuple(found)[:limit]

    @contextmanager
    def chain(self) -> Iterator[Chain]:
        with self.lock:
            known, head = list(self.entries), self.head()
        yield Chain(head=head, entries=iter(known))
