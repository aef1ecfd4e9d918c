"""Timelines of WAL: where two histories part. Pure rules.

A timeline's number alone proves nothing: two standbys that are promoted without knowing of each other
make the same number with different content. Histories are compared first, bytes of WAL after that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ha_tasks.model.cluster import parse_lsn

_SEGMENT = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})(\.partial)?")
_HISTORY = re.compile(r"([0-9A-F]{8})\.history")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A timeline from ``begin`` to ``end`` (bytes); the last of a history is open: ``end`` is None."""

    timeline: int
    begin: int
    end: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """The last timeline that two histories share, and where the first of them leaves it (None: neither)."""

    timeline: int
    lsn: int | None


def parse_history(text: str, timeline: int) -> tuple[Stretch, ...]:
    """The content of ``NNNNNNNN.history`` of ``timeline`` (empty for the first one), oldest first."""
    stretches: list[Stretch] = []
    begin = 0
    for line in text.splitlines():
        fields = line.split("#")[0].split(None, 2)
        if len(fields) >= 2:
            end = parse_lsn(fields[1])
            stretches.append(Stretch(timeline=int(fields[0]), begin=begin, end=end))
            begin = end
    return (*stretches, Stretch(timeline=timeline, begin=begin, end=None))


def fork_of(ours: Sequence[Stretch], theirs: Sequence[Stretch]) -> Fork | None:
    """Where the histories part, by their words only; None when they share nothing."""
    last: Fork | None = None
    for mine, other in zip(ours, theirs, strict=False):
        if (mine.timeline, mine.begin) != (other.timeline, other.begin):
            break
        ends = [end for end in (mine.end, other.end) if end is not None]
        last = Fork(timeline=mine.timeline, lsn=min(ends, default=None))
        if mine.end != other.end:
            break
    return last


def segment_name(timeline: int, segment: int, segment_bytes: int) -> str:
    """Name of the file that holds segment number ``segment`` of ``timeline``."""
    per_file = 0x1_0000_0000 // segment_bytes
    return f"{timeline:08X}{segment // per_file:08X}{segment % per_file:08X}"


def segment_of(name: str, segment_bytes: int) -> tuple[int, int] | None:
    """(timeline, segment number) of a WAL file's name, None for other names."""
    match = _SEGMENT.fullmatch(name)
    if match is None:
        return None
    per_file = 0x1_0000_0000 // segment_bytes
    return int(match[1], 16), int(match[2], 16) * per_file + int(match[3], 16)


def highest_timeline(names: Iterable[str]) -> int | None:
    """The highest timeline that the names in a pg_wal directory speak of."""
    found = [match for name in names if (match := _SEGMENT.match(name) or _HISTORY.fullmatch(name))]
    return max((int(match[1], 16) for match in found), default=None)


def timeline_holding(names: Iterable[str], lsn: int, segment_bytes: int) -> int | None:
    """The highest timeline of which a file holds the byte before ``lsn``."""
    wanted = max(lsn - 1, 0) // segment_bytes
    places = [place for name in names if (place := segment_of(name, segment_bytes))]
    return max((timeline for timeline, segment in places if segment == wanted), default=None)
