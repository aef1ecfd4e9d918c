"""The witness: writes the head of the audit chain down outside the database, and looks whether it still is.

Without it, whoever can write to the database could rewrite the whole chain with right hashes.
"""

from __future__ import annotations

import logging
import threading

from ha_tasks.model.audit import AuditHead, Verification, conflict, verified
from ha_tasks.ports.audit import Audit, AuditHeads
from ha_tasks.ports.clock import Clock

log = logging.getLogger("ha_tasks.audit")

EVERY_S = 1.0


def verify(audit: Audit, heads: AuditHeads) -> Verification:
    """The whole chain, walked and compared with every head that was written down outside the store.

    Raises StoreUnreachable, and OSError where the heads cannot be read.
    """
    # Before the chain is read: every head that is known by now is of an entry that is there by now.
    witnessed, at_odds = conflict(heads.known())
    if at_odds is not None:
        return Verification(entries=0, head=audit.head(), witnessed=0, broken=at_odds)
    with audit.chain() as chain:
        return verified(chain.entries, chain.head, witnessed)


class Witness:
    """One per process; any number of processes may witness the same chain."""

    def __init__(self, *, audit: Audit, heads: AuditHeads, clock: Clock, actor: str) -> None:
        self._audit = audit
        self._heads = heads
        self._clock = clock
        self._actor = actor
        self._lock = threading.Lock()
        self._looked_at: float | None = None
        self._trouble = ""

    def look(self, *, at_once: bool = False) -> None:
        """Writes the head down when it is a new one; at most once a second, unless ``at_once``.

        A file that cannot be written is told once and keeps nothing from working. Idempotent.
        Raises StoreUnreachable.
        """
        with self._lock:
            now = self._clock.monotonic()
            if not at_once and self._looked_at is not None and now - self._looked_at < EVERY_S:
                return
            self._looked_at = now
            # In this order: a head that another process writes down meanwhile is newer than ours.
            try:
                last = self._heads.last()
                head = self._audit.head()
                self._compare(last, head)
                if head.seq > last.seq:
                    self._heads.note(head, self._actor, self._clock.now())
            except OSError as error:
                self._tell(f"the head of the audit chain cannot be written down: {error}", logging.WARNING)

    def _compare(self, last: AuditHead, head: AuditHead) -> None:
        if head.seq < last.seq or (head.seq == last.seq and head.hash != last.hash):
            self._tell(
                f"the audit chain ends with entry {head.seq}, and entry {last.seq} was written down "
                f"({last.hash[:12]}): it was cut, rewritten, or the store was restored; "
                "see: ha-tasks audit verify",
                logging.CRITICAL,
            )
        else:
            self._trouble = ""

    def _tell(self, trouble: str, level: int) -> None:
        """Once, not at every look."""
        if trouble != self._trouble:
            log.log(level, "%s", trouble)
        self._trouble = trouble
