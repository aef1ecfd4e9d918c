"""A cool-down: after a success a scope is left alone for a while, and longer each time it relapses."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

LONGEST_S = 3600.0
"""It doubles up to an hour, unless the playbook itself asks for longer."""
SAME_RUN = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoolDown:
    """The latest one of a scope and playbook. ``length_s``: how long it was made, in seconds."""

    until: datetime
    length_s: float
    acknowledged: bool = False

    @property
    def began(self) -> datetime:
        """When the run ended that it follows."""
        return self.until - timedelta(seconds=self.length_s)


def cool_down_after(
    base_s: float, previous: CoolDown | None, *, fault_at: datetime, ended_at: datetime
) -> CoolDown:
    """What follows a success that ended at ``ended_at``. Pure; the same run gives the same again.

    ``fault_at``: when the failure began that was mended. A relapse is one within the previous cool-down
    or within as long again after it: then the next is twice as long, up to an hour. A person's
    acknowledgement begins anew.
    """
    if previous is not None and previous.length_s and previous.began + SAME_RUN > ended_at:
        return previous
    length_s = base_s
    if previous is not None and _relapsed(previous, fault_at):
        length_s = max(base_s, min(2 * previous.length_s, LONGEST_S))
    return CoolDown(until=ended_at + timedelta(seconds=length_s), length_s=length_s)


def _relapsed(previous: CoolDown, fault_at: datetime) -> bool:
    if previous.acknowledged:
        return False
    return fault_at <= previous.until + timedelta(seconds=previous.length_s)
