"""A PostgreSQL cluster under one epoch, and the rule that makes a promotion safe.

The fence is revocation of synchronous acknowledgement: a set S of N standbys of which a commit
needs W acknowledgements; R of them are confirmed to have stopped receiving from the old primary.
When R + W > N, any W members that could acknowledge a commit include a revoked one, so nothing
can be acknowledged there any more, and the most advanced revoked member has every acknowledged row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum


class ClusterState(StrEnum):
    """BLOCKED: a failover was refused and undone; a person or new evidence is needed."""

    STEADY = "steady"
    FAILING = "failing"
    BLOCKED = "blocked"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncSet:
    """``ANY quorum (members)``: explicit names, never ``*``. Empty: commits wait for nobody."""

    quorum: int
    members: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.quorum <= len(self.members):
            raise ValueError(f"a quorum of {self.quorum} of {len(self.members)} standbys cannot be")

    def setting(self) -> str:
        """The value of ``synchronous_standby_names``."""
        if not self.members or not self.quorum:
            return ""
        return f"ANY {self.quorum} ({', '.join(sorted(self.members))})"


def sync_set_of(members: Iterable[str]) -> SyncSet:
    """The standing rule: N = 1, 2: W = 1; N >= 3: W = floor(N/2) + 1."""
    names = tuple(sorted(members))
    if not names:
        return SyncSet(quorum=0, members=())
    return SyncSet(quorum=1 if len(names) <= 2 else len(names) // 2 + 1, members=names)


def promotion_is_safe(sets: Collection[SyncSet], revoked: Collection[str]) -> bool:
    """True when R + W > N holds for every recorded set; False without any set (nothing is proved).

    While two sets stand (a change is under way) a reload can let a commit through that neither
    set alone would: then R + min(W) > |union| must hold as well (``syncrep.c``: each walsender
    judges by the configuration that it has read).
    """
    if not sets or any(not s.quorum for s in sets):
        return False
    confirmed = set(revoked)
    if not all(len(confirmed & set(s.members)) + s.quorum > len(s.members) for s in sets):
        return False
    union = {member for s in sets for member in s.members}
    return len(confirmed & union) + min(s.quorum for s in sets) > len(union)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """A candidate that may have been promoted in ``epoch`` with ``sync_set``, not yet committed."""

    epoch: int
    candidate: str
    sync_set: SyncSet
    timeline: int = 0
    """Of its WAL when it was chosen; a promotion makes a higher one. 0: it was not recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The recorded truth about a cluster; it changes only by compare-and-set on ``epoch``."""

    name: str
    epoch: int
    primary: str
    state: ClusterState
    sets: tuple[SyncSet, ...]
    unfinished: tuple[Unfinished, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """A standby's answer to a revocation: it receives nothing any more and has WAL up to ``lsn``."""

    node: str
    timeline: int
    lsn: int
    followed: str | None = None
    """Node that it followed last."""
    begun: int | None = None
    """Epoch in which a promotion was begun there since it last followed another; None: none."""
    system: str = ""
    """System identifier of its data; empty: it was not told."""


def parse_lsn(text: str) -> int:
    """``0/3000148`` -> bytes since the beginning; ValueError when it is no LSN."""
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def format_lsn(lsn: int) -> str:
    """Bytes -> ``0/3000148``."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
