"""Availability out of intervals: time is weighed, and time of which nothing is known does not count as good.

A service's life is a chain of stretches, each in one state. Wherever no stretch reaches, nobody knew:
before the first one the service did not exist, after it a gap is UNKNOWN. The stretch that stands is
believed only as long as somebody judges the service; after that it is unknown from the last judgement on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol


class ServiceState(StrEnum):
    """DEGRADED serves, though not well. MAINTENANCE that nobody announced counts as not available."""

    AVAILABLE = "available"
    DEGRADED = "degraded"
    UNAVAILABLE = "unavailable"
    UNKNOWN = "unknown"
    MAINTENANCE = "maintenance"


SERVING = frozenset({ServiceState.AVAILABLE, ServiceState.DEGRADED})

WINDOW = timedelta(hours=24)
"""Of 5 min, 15 min, 1 h, 24 h, 7 d and 30 d the only window in which "< 99.9 % for 5 min" is quiet about
a failover that met its target and still awake for an outage of ten minutes (calculated)."""


class Stretch(Protocol):
    """A stretch of a service's life; ``until`` None: it stands. ``ports.repositories.Interval`` is one."""

    @property
    def state(self) -> str:
        """A ServiceState; another word is taken for UNKNOWN."""
        ...

    @property
    def since(self) -> datetime:
        """Aware UTC, included."""
        ...

    @property
    def until(self) -> datetime | None:
        """Aware UTC, excluded."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """What is known of a service: its weight, its stretches, and when it was last judged.

    After ``stale_after_s`` seconds without a judgement the standing stretch is no longer believed.
    """

    weight: float
    stretches: Sequence[Stretch]
    judged_at: datetime | None
    stale_after_s: float


def state_at(life: Life, now: datetime) -> ServiceState:
    """The state that is known to stand at ``now``."""
    state = ServiceState.UNKNOWN
    for since, until, told in _chain(life, now):
        if since <= now <= until:
            state = told
    return state


def seconds_by_state(
    life: Life, since: datetime, until: datetime, now: datetime
) -> Mapping[ServiceState, float]:
    """Seconds in each state from ``since`` (or the first stretch, if later) to ``until`` (at most ``now``).

    They add up to that time: what no stretch covers is UNKNOWN.
    """
    seconds = dict.fromkeys(ServiceState, 0.0)
    if not life.stretches:
        return seconds
    start = max(since, min(s.since for s in life.stretches))
    whole = max(0.0, (until - start).total_seconds())
    covered = 0.0
    for begin, end, state in _chain(life, now):
        part = max(0.0, (min(end, until) - max(begin, start)).total_seconds())
        seconds[state] += part
        covered += part
    seconds[ServiceState.UNKNOWN] += max(0.0, whole - covered)
    return seconds


def availability_percentage(lives: Iterable[Life], now: datetime, window: timedelta = WINDOW) -> float | None:
    """100 * weighted time served / weighted time observed, over the window or the service's age if shorter.

    A service that nobody has ever judged is unknown since the first of the others was. None when
    nothing was observed: no number is better than a good one that nobody measured.
    """
    known = list(lives)
    firsts = [s.since for life in known for s in life.stretches]
    if not firsts:
        return None
    start = max(now - window, min(firsts))
    served = observed = 0.0
    for life in known:
        seconds = seconds_by_state(life, start, now, now)
        silent = 0.0 if life.stretches else (now - start).total_seconds()
        served += life.weight * sum(seconds[state] for state in SERVING)
        observed += life.weight * (sum(seconds.values()) + silent)
    return 100.0 * served / observed if observed > 0 else None


def _chain(life: Life, now: datetime) -> list[tuple[datetime, datetime, ServiceState]]:
    """The stretches one after another: where two overlap, the later one begins and the earlier ends."""
    ordered = sorted(life.stretches, key=lambda s: s.since)
    ends = [*(s.since for s in ordered), now][1:]
    return [
        (s.since, min(end, _believed_until(s, life, now)), _state(s.state))
        for s, end in zip(ordered, ends, strict=True)
    ]


def _believed_until(stretch: Stretch, life: Life, now: datetime) -> datetime:
    if stretch.until is not None:
        return stretch.until
    if life.judged_at is None:
        return stretch.since
    if (now - life.judged_at).total_seconds() <= life.stale_after_s:
        return now
    return max(stretch.since, life.judged_at)


def _state(word: str) -> ServiceState:
    try:
        return ServiceState(word)
    except ValueError:
        return ServiceState.UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegrityResult:
    """The latest result of a data integrity check.

    ``due_within_s``: how old it may be, in seconds; None: the check runs on occasions, and its latest
    result stands.
    """

    ok: bool
    at: datetime
    weight: float = 1.0
    due_within_s: float | None = None


def integrity_score(results: Iterable[IntegrityResult], now: datetime) -> float | None:
    """Weighted share of checks that passed, from 0 to 1; an overdue check has failed. None without any."""
    known = list(results)
    total = sum(result.weight for result in known)
    if total <= 0:
        return None
    return sum(result.weight for result in known if _passed(result, now)) / total


def _passed(result: IntegrityResult, now: datetime) -> bool:
    if result.due_within_s is None:
        return result.ok
    return result.ok and (now - result.at).total_seconds() <= result.due_within_s
