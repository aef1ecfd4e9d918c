"""What a steady load through the balancer saw: each request, who acknowledged it, when."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """An acknowledged write. ``node`` and ``timeline`` are what the server said of itself in the same
    statement; ``sent_at`` and ``acked_at`` are aware UTC.
    """

    writer: int
    seq: int
    node: str
    timeline: int
    sent_at: datetime
    acked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """A request that was not acknowledged: it may or may not have been applied."""

    writer: int
    seq: int
    sent_at: datetime
    failed_at: datetime
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """``present`` is which acknowledged (writer, seq) were found when read back; None: not readable."""

    acks: tuple[Ack, ...]
    misses: tuple[Miss, ...]
    present: frozenset[tuple[int, int]] | None


def ended_at(report: LoadReport) -> datetime | None:
    """When the last request was answered or given up; None without any request."""
    moments = [*(a.acked_at for a in report.acks), *(m.failed_at for m in report.misses)]
    return max(moments, default=None)


NOTICEABLE_S = 0.25
"""Several times the pause of any load here: a shorter gap between two acknowledgements is its rhythm."""


def outage_s(acks: Iterable[Ack], fault_at: datetime, until: datetime | None = None) -> float | None:
    """Seconds from the fault to the end of the longest gap between acknowledgements after it.

    The gap that the fault itself lies in counts from the fault. ``until`` is when the load ended
    (``ended_at``): a killed server acknowledges for some tenths of a second more, and without
    ``until`` these few would look like a recovery. None when nothing was acknowledged after the
    fault, or when the longest gap was still open at ``until``: it did not come back. A longest gap that
    nobody would notice (below ``NOTICEABLE_S``) is no outage: it is answered as it is.
    """
    after = sorted(a.acked_at for a in acks if a.acked_at > fault_at)
    if not after:
        return None
    edges = [fault_at, *after]
    gaps = [(b - a).total_seconds() for a, b in zip(edges, after, strict=False)]
    longest = max(range(len(gaps)), key=gaps.__getitem__)
    if until is not None and (until - after[-1]).total_seconds() > max(gaps[longest], NOTICEABLE_S):
        return None
    if gaps[longest] < NOTICEABLE_S:
        return gaps[longest]
    return (after[longest] - fault_at).total_seconds()


def longest_gap_s(report: LoadReport, since: datetime) -> float | None:
    """Seconds between two acknowledgements, or from ``since`` or to the load's end; None without any."""
    after = sorted(a.acked_at for a in report.acks if a.acked_at > since)
    end = ended_at(report)
    if not after or end is None:
        return None
    edges = [since, *after, max(end, after[-1])]
    return max((b - a).total_seconds() for a, b in pairwise(edges))


def lost(report: LoadReport) -> int | None:
    """Acknowledged writes that are not there when read back; None when they could not be read."""
    if report.present is None:
        return None
    return sum((a.writer, a.seq) not in report.present for a in report.acks)


def stale(acks: Collection[Ack]) -> int:
    """Writes sent after a newer timeline had acknowledged one, and acknowledged by an older timeline."""
    first_by_timeline: dict[int, datetime] = {}
    for ack in sorted(acks, key=lambda a: a.acked_at):
        first_by_timeline.setdefault(ack.timeline, ack.acked_at)
    return sum(
        any(t > ack.timeline and first < ack.sent_at for t, first in first_by_timeline.items())
        for ack in acks
    )
