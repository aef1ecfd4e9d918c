"""Whether two wall clocks agree. Signatures, probes and stories are read by them."""

from __future__ import annotations

from datetime import datetime


def clock_off_by_s(clock: float, asked_at: datetime, answered_at: datetime) -> float:
    """By how much another clock is ahead of ours (negative: behind), in seconds.

    ``clock``: seconds since 1970, read there between ``asked_at`` and ``answered_at`` by our clock. What
    lies between these two is no difference.
    """
    return clock - min(max(clock, asked_at.timestamp()), answered_at.timestamp())


def clock_fault(
    host: str,
    clock: float | None,
    asked_at: datetime,
    answered_at: datetime,
    *,
    tolerated_s: float,
) -> str | None:
    """What is wrong with the clock of that host and how to mend it; None: nothing, or it did not tell."""
    off_s = 0.0 if clock is None else clock_off_by_s(clock, asked_at, answered_at)
    if abs(off_s) <= tolerated_s:
        return None
    side = "ahead of" if off_s > 0 else "behind"
    return (
        f"the clock of {host} is {abs(off_s):.0f} s {side} ours: set both by NTP "
        "(timedatectl set-ntp true); beyond 30 s its agent refuses every request"
    )
