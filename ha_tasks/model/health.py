"""Health of an instance and of a service, from 0 (down) to 1 (healthy), by the latest probes.

A score is the worst of its dimensions, so that one bad dimension cannot hide behind good ones. What is
not known has no score: it is neither 0 nor what it was before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from statistics import median

from ha_tasks.model.platform import Role, Service, ServiceKind
from ha_tasks.model.probe import ProbeOutcome

LAST_PROBES = 10
"""Per vantage: how many probes the share of good ones is taken from."""
FRESH_INTERVALS = 3
"""A vantage whose latest probe is older than so many intervals says nothing about now."""
HEALTHY_SCORE = 0.8


class ServiceState(StrEnum):
    """DEGRADED serves, with less than it should have. UNKNOWN counts as not available."""

    AVAILABLE = "available"
    DEGRADED = "degraded"
    UNAVAILABLE = "unavailable"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceHealth:
    """``score`` None: unknown. ``instances``: score of each instance, None for those that are unknown."""

    service: str
    state: ServiceState
    score: float | None
    instances: Mapping[str, float | None]


def instance_score(service: Service, outcomes: Iterable[ProbeOutcome], now: datetime) -> float | None:
    """Worst of: up by most of the fresh vantages, share of good probes, latency against its objective.

    ``outcomes`` are one instance's, in any order. The latency objective is half of the check's timeout;
    the score falls as their quotient. None when no vantage is fresh.
    """
    fresh = _fresh(service, outcomes, now)
    if not fresh:
        return None
    latest = [tail[-1].ok for tail in fresh]
    if sum(latest) * 2 < len(latest):
        return 0.0
    probes = [outcome for tail in fresh for outcome in tail]
    good = [outcome for outcome in probes if outcome.ok]
    return min(len(good) / len(probes), _latency_score(service, good))


def service_health(
    service: Service, scores: Mapping[str, float | None], in_rotation: Collection[str]
) -> ServiceHealth:
    """``in_rotation``: who gets the traffic; of a PostgreSQL service the recorded primary alone.

    Unavailable when none of these is up; unknown when none is up and one of them is unknown. Capacity
    is the scores' sum over the configured strength: the active instances in rotation, or every node of a
    PostgreSQL cluster, whose standbys are its redundancy.
    """
    serving = [scores.get(name) for name in in_rotation]
    if not any(serving):
        state = ServiceState.UNKNOWN if None in serving or not serving else ServiceState.UNAVAILABLE
        score = None if state is ServiceState.UNKNOWN else 0.0
        return ServiceHealth(service=service.name, state=state, score=score, instances=dict(scores))
    counted, strength = _strength(service, in_rotation)
    parts = [scores.get(name) or 0.0 for name in counted]
    capacity = min(1.0, sum(parts) / strength)
    full = sum(part > 0 for part in parts) >= strength and capacity >= HEALTHY_SCORE
    state = ServiceState.AVAILABLE if full else ServiceState.DEGRADED
    return ServiceHealth(service=service.name, state=state, score=capacity, instances=dict(scores))


def _strength(service: Service, in_rotation: Collection[str]) -> tuple[Collection[str], int]:
    """Who counts towards capacity, and how many there should be."""
    if service.kind is ServiceKind.POSTGRES:
        names = [instance.name for instance in service.instances]
        return names, len(names)
    return in_rotation, max(1, sum(i.role is not Role.SPARE for i in service.instances))


def _fresh(service: Service, outcomes: Iterable[ProbeOutcome], now: datetime) -> list[Sequence[ProbeOutcome]]:
    """The last outcomes of each vantage that has looked lately, oldest first."""
    check = service.check
    horizon = now - timedelta(seconds=FRESH_INTERVALS * check.interval_s + check.timeout_s)
    by_vantage: dict[str, list[ProbeOutcome]] = {}
    for outcome in sorted(outcomes, key=lambda o: o.sent_at):
        by_vantage.setdefault(outcome.vantage, []).append(outcome)
    return [tail[-LAST_PROBES:] for tail in by_vantage.values() if tail[-1].sent_at >= horizon]


def _latency_score(service: Service, good: Sequence[ProbeOutcome]) -> float:
    objective_s, latency_s = service.check.timeout_s / 2, median(o.rtt_s for o in good)
    return 1.0 if latency_s <= objective_s else objective_s / latency_s
