"""What one probe of one instance, seen from one vantage, came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from ha_tasks.model.plain import Facts


class OutcomeKind(StrEnum):
    """How a probe ended; anything but OK is a failure."""

    OK = "ok"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Target:
    """What is probed."""

    service: str
    instance: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOutcome:
    """A target that does not answer is an outcome, not an error.

    ``vantage`` is ``host/process``; ``sent_at`` and ``known_at`` are aware UTC; ``rtt_s`` seconds.
    ``facts`` for PostgreSQL: ``in_recovery`` (bool), ``timeline`` (int), ``lsn`` (int, bytes),
    ``receiving`` (bool: the WAL receiver heard from upstream within 2 s), ``waits`` (transactions that
    wait in their commit: ``sync`` for a synchronous standby, ``wal`` for the disk; each names the longest
    one by pid and begin, and is missing when there is none), ``standbys`` (list of names: whom a primary
    sends WAL to; missing where that may not be seen),
    ``agent`` (None when silent, else {"postmaster": "running"|"exited"|"absent", "epoch": int,
    "stopped": ""|"the postmaster"|"every process", "unanswered_s": seconds since the agent itself was
    last answered by a new session, or None, "self_fenced": why the agent ended it by itself, or ""}).
    """

    target: Target
    vantage: str
    sent_at: datetime
    known_at: datetime
    kind: OutcomeKind
    rtt_s: float
    detail: str = ""
    facts: Facts = field(default_factory=dict)
    probe: str = "other"
    """How it was probed, a ServiceKind: the label ``probe`` of the counters."""

    @property
    def ok(self) -> bool:
        """True when the target answered as it should."""
        return self.kind is OutcomeKind.OK
