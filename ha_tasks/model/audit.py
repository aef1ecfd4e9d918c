"""The audit chain: who did what to what, each entry bound to the one before it by a hash. Pure.

Whoever changes, removes, adds or exchanges an entry must compute every later hash anew; whoever does that
too is found by the heads that were written down elsewhere (see docs/adr/0017-audit-chain.md).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from ha_tasks.model.plain import Json

GENESIS = "0" * 64
"""What the first entry is bound to."""
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class AuditVerb(StrEnum):
    """Verbs that are whole words; those of incidents and runs end with the state that was reached."""

    INCIDENT_OPENED = "incident.opened"
    INCIDENT_ACKNOWLEDGED = "incident.acknowledged"
    INCIDENT_LET_GO = "incident.let_go"
    RUN_CREATED = "run.created"
    RUN_APPROVED = "run.approved"
    SWITCH_ENGAGED = "switch.engaged"
    SWITCH_RELEASED = "switch.released"
    COOL_DOWN_ACKNOWLEDGED = "cool_down.acknowledged"
    CLUSTER_REGISTERED = "cluster.registered"
    CLUSTER_ADVANCED = "cluster.advanced"
    SERVERS_WANTED = "servers.wanted"
    MAINTENANCE_ADDED = "maintenance.added"
    MAINTENANCE_ENDED = "maintenance.ended"
    STORE_APPROVED = "store.approved"
    REVISION_APPLIED = "revision.applied"
    VERSION_RECORDED = "version.recorded"
    VERSION_JUDGED = "version.judged"
    DRILL_BEGUN = "drill.begun"
    DRILL_ENDED = "drill.ended"
    DRILL_JUDGED = "drill.judged"
    MANAGER_ASKED = "manager.asked"
    MANAGER_DONE = "manager.done"


def state_verb(noun: str, state: str) -> str:
    """``incident.escalated``, ``run.succeeded``: the verb of reaching a state."""
    return f"{noun}.{state}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditHead:
    """The newest entry's number and hash; number 0: there is none yet."""

    seq: int = 0
    hash: str = GENESIS


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """``object`` is what it was done to (``I-3``, ``run 7``, ``switch stop``); ``at`` is aware UTC.

    ``before`` and ``after`` hold known fields only, never a secret; None where there is nothing to say.
    """

    seq: int
    at: datetime
    actor: str
    verb: str
    object: str
    before: Json | None
    after: Json | None
    prev_hash: str
    hash: str


def entry_after(
    head: AuditHead,
    *,
    at: datetime,
    actor: str,
    verb: str,
    object: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    seq: int | None = None,
) -> AuditEntry:
    """The entry that follows ``head``, hashed as it will be read back: what a store would change is
    changed before. ``seq``: its number, where it must not be the next one.
    """
    entry = AuditEntry(
        seq=head.seq + 1 if seq is None else seq,
        at=at,
        actor=_storable(actor),
        verb=str(verb),
        object=_storable(object),
        before=_plain(before),
        after=_plain(after),
        prev_hash=head.hash,
        hash="",
    )
    return replace(entry, hash=hash_of(entry))


def _storable(text: str) -> str:
    """As PostgreSQL takes it: without NUL and without half a surrogate pair."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def _plain(body: Mapping[str, Any] | None) -> Json | None:
    """What a JSON column gives back: lists for tuples, texts for words of an enumeration."""
    return None if body is None else dict(json.loads(json.dumps(dict(body))))


def canonical(entry: AuditEntry) -> bytes:
    """The entry as the one text that is hashed: a JSON array, keys sorted, ASCII, no blanks.

    The moment stands in it as whole microseconds since 1970, so that no time zone can change it.
    """
    moment = (entry.at - _BEGINNING) // _MICROSECOND
    told = [
        entry.seq,
        moment,
        entry.actor,
        entry.verb,
        entry.object,
        entry.before,
        entry.after,
        entry.prev_hash,
    ]
    return json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def hash_of(entry: AuditEntry) -> str:
    """SHA-256 of the canonical text, in hexadecimal."""
    return hashlib.sha256(canonical(entry)).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """The first thing that is wrong: at which entry, and what."""

    seq: int
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """``entries``: how many were looked at; ``witnessed``: how many heads from elsewhere agreed."""

    entries: int
    head: AuditHead
    witnessed: int
    broken: Break | None

    @property
    def ok(self) -> bool:
        """True: the chain is whole, and is the one that was written down elsewhere."""
        return self.broken is None


def verified(
    entries: Iterable[AuditEntry], head: AuditHead, witnessed: Mapping[int, str] | None = None
) -> Verification:
    """Walks the whole chain, in the order of its numbers, up to its first break.

    ``witnessed``: number -> hash, as they were written down elsewhere; they must be of a time before
    ``entries`` was begun to be read.
    """
    known = witnessed or {}
    last, agreed = AuditHead(), 0
    for entry in entries:
        wrong = _wrong_with(entry, last, known)
        if wrong is not None:
            return Verification(entries=last.seq, head=last, witnessed=agreed, broken=wrong)
        agreed += entry.seq in known
        last = AuditHead(seq=entry.seq, hash=entry.hash)
    return Verification(
        entries=last.seq, head=last, witnessed=agreed, broken=_wrong_at_end(last, head, known)
    )


def conflict(heads: Iterable[AuditHead]) -> tuple[Mapping[int, str], Break | None]:
    """(number -> hash, None), or the first number of which two hashes were written down."""
    known: dict[int, str] = {}
    for head in heads:
        if known.setdefault(head.seq, head.hash) != head.hash:
            return known, Break(
                seq=head.seq, problem="was written down with two hashes: the chain was rewritten"
            )
    return known, None


def _wrong_with(entry: AuditEntry, last: AuditHead, known: Mapping[int, str]) -> Break | None:
    if entry.seq != last.seq + 1:
        return Break(seq=last.seq + 1, problem=f"is missing; the next one is {entry.seq}")
    if entry.prev_hash != last.hash:
        return Break(seq=entry.seq, problem="is not bound to the entry before it")
    if entry.hash != hash_of(entry):
        return Break(seq=entry.seq, problem="is not what was hashed: a field of it was changed")
    if known.get(entry.seq, entry.hash) != entry.hash:
        return Break(
            seq=entry.seq,
            problem="is another than the head that was written down: the chain was rewritten",
        )
    return None


def _wrong_at_end(last: AuditHead, head: AuditHead, known: Mapping[int, str]) -> Break | None:
    highest = max(known, default=0)
    if highest > last.seq:
        return Break(
            seq=last.seq + 1,
            problem=f"is missing: entry {highest} was written down elsewhere, the chain ends at {last.seq}",
        )
    if head != last:
        return Break(
            seq=last.seq,
            problem=f"is the newest entry, but the head is entry {head.seq}" + _same_seq(last, head),
        )
    return None


def _same_seq(last: AuditHead, head: AuditHead) -> str:
    return " with another hash" if head.seq == last.seq else ""
