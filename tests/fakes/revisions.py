"""Revisions of the inventory in a list."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from threading import RLock

from ha_tasks.errors import RevisionConflict
from ha_tasks.model.deeds import revision_applied
from ha_tasks.model.plain import Facts
from ha_tasks.model.revision import Change, Revision, sha256_of
from tests.fakes.audit import FakeAudit
from tests.fakes.locked import one_at_a_time, plain


class FakeRevisions:
    """Implements ``Revisions``."""

    def __init__(self, audit: FakeAudit | None = None) -> None:
        self.lock = RLock()
        self.audit = audit or FakeAudit()
        self.applied: list[Revision] = []

    @one_at_a_time
    def newest(self) -> Revision | None:
        return self.applied[-1] if self.applied else None

    @one_at_a_time
    def get(self, no: int) -> Revision:
        if not 1 <= no <= len(self.applied):
            raise KeyError(no)
        return self.applied[no - 1]

    @one_at_a_time
    def place(self, sha256: str) -> tuple[int | None, int | None]:
        own = [each.no for each in self.applied if each.sha256 == sha256]
        return (own[-1] if own else None), (len(self.applied) or None)

    @one_at_a_time
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
        before, sha256 = self.newest(), sha256_of(body)
        if before is not None and before.sha256 == sha256:
            return before
        if (before.no if before else None) != onto:
            raise RevisionConflict(f"somebody else has applied a revision after {onto}")
        made = Revision(
            no=len(self.applied) + 1,
            sha256=sha256,
            body=plain(dict(body)),
            changes=tuple(Change(**plain(change.to_json())) for change in changes),
            actor=actor,
            reason=reason,
            applied_at=now,
        )
        self.applied.append(made)
        self.audit.record(now, revision_applied(before, made))
        return made
