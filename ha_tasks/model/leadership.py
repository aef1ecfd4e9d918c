"""Who leads, and when another may: the rule of take-over, pure.

No two hosts' clocks are compared. A leader changes its row with each renewal; whoever wants to follow it
looks at the row, and takes over once it has not changed for a whole lease by the follower's own monotonic
clock. A step of anybody's wall clock changes nothing about that.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

BEAT = "beat"
"""Name of the leadership of those that beat."""
NOBODY = ""
"""The holder of a lease that was given back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A leadership's row. ``lease_until`` is by its holder's clock: a stamp that changes, and for people."""

    holder: str
    fence: int
    lease_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A row, and since when it has been seen like that, by the watcher's monotonic clock in seconds."""

    lease: Lease | None
    since_s: float

    def seen(self, lease: Lease | None, at_s: float) -> Watch:
        """What is known after another look at ``at_s``."""
        return self if lease == self.lease else Watch(lease=lease, since_s=at_s)

    def may_take(self, at_s: float, lease_s: float) -> bool:
        """True when nobody leads, or whoever did has let a whole lease pass."""
        if self.lease is None or self.lease.holder == NOBODY:
            return True
        return at_s - self.since_s >= lease_s
