"""Guards: the reasons not to act, in their fixed order, as one pure function of the facts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ha_tasks.model.playbook import Plan


class Guard(StrEnum):
    """In the order in which they are asked; the word is a metric label."""

    STOP_SWITCH = "stop_switch"
    OBSERVE_ONLY = "observe_only"
    MAINTENANCE = "maintenance"
    BLIND = "blind"
    TARGETS = "targets"
    ACTIVE_LEASE = "active_lease"
    COOL_DOWN = "cool_down"
    JUST_PROMOTED = "just_promoted"
    CONCURRENT = "concurrent"
    GLOBAL_RATE = "global_rate"
    BLAST_RADIUS = "blast_radius"
    UPSTREAM_FIRST = "upstream_first"
    FROZEN = "frozen"
    HOST_SILENT = "host_silent"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardFacts:
    """What the guards judge by; gathered by the caller at ``now`` (aware UTC)."""

    now: datetime
    plan: Plan
    stopped_by: str | None = None
    observe_only: bool = False
    maintenance_until: datetime | None = None
    blind: bool = False
    active_run: int | None = None
    cooling_until: datetime | None = None
    promoted_recently: bool = False
    running: int = 0
    max_running: int = 2
    runs_last_hour: int = 0
    max_runs_per_hour: int = 60
    healthy_others: int = 0
    failed_upstreams: tuple[str, ...] = ()
    frozen_by: int | None = None
    """Incident whose compensation failed on this scope and that nobody has acknowledged."""
    silent_host: str | None = None
    """Host that the plan needs and whose agent does not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One guard's no, with what a person can do about it."""

    guard: Guard
    detail: str


def refusal(facts: GuardFacts) -> Refusal | None:
    """The first guard that says no; None when the plan may run."""
    for guard, judge in _GUARDS:
        detail = judge(facts)
        if detail is not None:
            return Refusal(guard=guard, detail=detail)
    return None


def _stop(f: GuardFacts) -> str | None:
    return f"automation is switched off by {f.stopped_by}" if f.stopped_by else None


def _observe(f: GuardFacts) -> str | None:
    return "observe-only: nothing is changed automatically" if f.observe_only else None


def _maintenance(f: GuardFacts) -> str | None:
    if f.maintenance_until is None or f.maintenance_until <= f.now:
        return None
    return f"maintenance until {f.maintenance_until:%H:%M:%S} UTC"


def _blind(f: GuardFacts) -> str | None:
    return "too few fresh vantages to judge" if f.blind else None


def _targets(f: GuardFacts) -> str | None:
    """An empty target set once meant "everything" (Site Reliability Engineering, chapter 7)."""
    count, limit = len(f.plan.targets), f.plan.guards.max_targets
    if not count:
        return "the plan has no target"
    return f"{count} targets, at most {limit} allowed" if count > limit else None


def _lease(f: GuardFacts) -> str | None:
    return None if f.active_run is None else f"run {f.active_run} is active on {f.plan.scope}"


def _cooling(f: GuardFacts) -> str | None:
    if f.cooling_until is None or f.cooling_until <= f.now:
        return None
    left = (f.cooling_until - f.now).total_seconds()
    return f"{f.plan.scope} cools down for {left:.0f} s; end it with: ha-tasks ack {f.plan.scope}"


def _promoted(f: GuardFacts) -> str | None:
    return "the primary was promoted only just now" if f.promoted_recently else None


def _concurrent(f: GuardFacts) -> str | None:
    return f"{f.running} recoveries are running" if f.running >= f.max_running else None


def _rate(f: GuardFacts) -> str | None:
    if f.runs_last_hour < f.max_runs_per_hour:
        return None
    return f"{f.runs_last_hour} recoveries within the last hour"


def _blast(f: GuardFacts) -> str | None:
    need = f.plan.guards.min_healthy
    if f.healthy_others >= need:
        return None
    return f"only {f.healthy_others} other healthy instances, {need} needed"


def _upstream(f: GuardFacts) -> str | None:
    if not f.failed_upstreams:
        return None
    return f"it depends on {', '.join(f.failed_upstreams)}, which must be recovered first"


def _frozen(f: GuardFacts) -> str | None:
    if f.frozen_by is None:
        return None
    return f"incident {f.frozen_by} left it half recovered; when mended: ha-tasks ack I-{f.frozen_by}"


def _silent(f: GuardFacts) -> str | None:
    return f"the agent on {f.silent_host} does not answer" if f.silent_host else None


_GUARDS: tuple[tuple[Guard, Callable[[GuardFacts], str | None]], ...] = (
    (Guard.STOP_SWITCH, _stop),
    (Guard.OBSERVE_ONLY, _observe),
    (Guard.MAINTENANCE, _maintenance),
    (Guard.BLIND, _blind),
    (Guard.TARGETS, _targets),
    (Guard.ACTIVE_LEASE, _lease),
    (Guard.COOL_DOWN, _cooling),
    (Guard.JUST_PROMOTED, _promoted),
    (Guard.CONCURRENT, _concurrent),
    (Guard.GLOBAL_RATE, _rate),
    (Guard.BLAST_RADIUS, _blast),
    (Guard.UPSTREAM_FIRST, _upstream),
    (Guard.FROZEN, _frozen),
    (Guard.HOST_SILENT, _silent),
)
