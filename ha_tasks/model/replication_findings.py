"""What may be wrong about a cluster's replication: the closed list, each with its words. Pure values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum

from ha_tasks.model.plain import Json


class FindingCode(StrEnum):
    """The word is a metric label, and the end of an incident's key."""

    SILENT = "silent"
    TWO_PRIMARIES = "two_primaries"
    NO_PRIMARY = "no_primary"
    OTHER_SYSTEM = "other_system"
    DIVERGED = "diverged"
    NOT_FOLLOWING = "not_following"
    RECEIVER_SILENT = "receiver_silent"
    LAG = "lag"
    TWO_SENDERS = "two_senders"
    STRANGER = "stranger"
    NO_SLOT = "no_slot"
    SLOT_HOLDS_WAL = "slot_holds_wal"
    SLOT_LOST = "slot_lost"
    SLOT_ABANDONED = "slot_abandoned"
    NO_SYNC_STANDBY = "no_sync_standby"
    ANY_SYNC_STANDBY = "any_sync_standby"
    SYNC_SET_DIFFERS = "sync_set_differs"
    REDUNDANCY_MISSING = "redundancy_missing"
    COMMIT_WEAKENED = "commit_weakened"
    NO_REWIND = "no_rewind"
    UNSAFE_SETTING = "unsafe_setting"
    NO_SESSIONS = "no_sessions"
    APPLY_DELAY = "apply_delay"
    SLOW_SETTING = "slow_setting"
    PENDING_RESTART = "pending_restart"
    OLD_BINARY = "old_binary"
    RIGHTS_MISSING = "rights_missing"
    # of Redis and Valkey
    NOBODY_WRITES = "nobody_writes"
    LINK_DOWN = "link_down"
    UNGUARDED = "unguarded"
    CLUSTER_MODE = "cluster_mode"


class Severity(StrEnum):
    """NOTE: nothing is at risk yet."""

    CRITICAL = "critical"
    WARNING = "warning"
    NOTE = "note"


SEEN_ELSEWHERE = frozenset(
    {
        FindingCode.SILENT,
        FindingCode.NO_PRIMARY,
        FindingCode.NOT_FOLLOWING,
        FindingCode.REDUNDANCY_MISSING,
    }
)
"""The detector opens incidents of its own about these, and has them mended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong: where (a node, '' for the cluster), what, and how to mend it.

    ``subject``: of two of a kind at one node, which (a slot, a role).
    """

    code: FindingCode
    severity: Severity
    node: str
    problem: str
    remedy: str
    subject: str = ""

    @property
    def told(self) -> bool:
        """A person is told of it by an incident."""
        return self.severity is not Severity.NOTE and self.code not in SEEN_ELSEWHERE

    @property
    def key(self) -> str:
        """The same thing found again has the same one."""
        return "/".join((self.node or "cluster", self.code, *filter(None, (self.subject,))))

    def to_json(self) -> Json:
        """As plain JSON, with its key."""
        return {**asdict(self), "key": self.key}
