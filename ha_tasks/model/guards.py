"""Guards: the reasons not to act, in their fixed order, as one pure function of the facts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from ha_tasks.model.data_risk import Loss
from ha_tasks.model.maintenance import Window
from ha_tasks.model.playbook import Approval, Plan
from ha_tasks.model.switch import Switch


class Guard(StrEnum):
    """In the order in which they are asked; the word is a metric label."""

    STOP_SWITCH = "stop_switch"
    OBSERVE_ONLY = "observe_only"
    REVISION = "revision"
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
    DURABILITY = "durability"
    DATA_LOSS = "data_loss"
    APPROVAL = "approval"


PASSED: Mapping[str, frozenset[Guard]] = MappingProxyType(
    {
        # Whoever asks for it has seen what these wait for: that the work ends, that it does not come back.
        "manual": frozenset({Guard.MAINTENANCE, Guard.COOL_DOWN, Guard.JUST_PROMOTED}),
        # Its fault is known to be real, and drills follow each other quickly.
        "drill": frozenset({Guard.JUST_PROMOTED}),
    }
)
"""Guards that are not asked, by the mode of the order; of any other mode all are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """A service that must serve before this one can be mended, and the incident that keeps it from it."""

    service: str
    incident: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardFacts:
    """What the guards judge by; gathered by the caller at ``now`` (aware UTC)."""

    now: datetime
    plan: Plan
    stopped: Switch | None = None
    observing: Switch | None = None
    revision_problem: str | None = None
    """Why this process may begin nothing under the applied revision of the inventory."""
    maintenance: tuple[Window, datetime] | None = None
    """The window that is open, and its end."""
    blind: bool = False
    active_run: int | None = None
    cooling_until: datetime | None = None
    promoted_at: datetime | None = None
    """When the primary that failed was promoted; None when it is not about a primary, or never was."""
    just_promoted_s: float = 10.0
    running: int = 0
    max_running: int = 2
    runs_last_hour: int = 0
    max_runs_per_hour: int = 60
    healthy_others: int = 0
    pool: int = 1
    """Instances of the service."""
    taken_out: frozenset[str] = field(default_factory=frozenset)
    """Those of the pool that were taken out of the balancer and did not come back."""
    upstreams: tuple[Upstream, ...] = ()
    """Those that are down."""
    silent_primary: str | None = None
    """The primary that the plan needs and that does not answer, whether or not it is known to be down."""
    frozen_by: int | None = None
    """Incident whose compensation failed on this scope and that nobody has acknowledged."""
    silent_host: str | None = None
    """Host that the plan needs and whose agent does not answer."""
    stalled: str | None = None
    """The synchronous set that policy durability keeps, although nobody would be left in it."""
    unproved: tuple[str, ...] = ()
    """Why the recorded synchronous set proves nothing, so that whatever is promoted may lack rows."""
    possible_loss: Loss | None = None
    """None: no acknowledged data can be lost."""
    rpo_s: float = 0.0
    accepted_bytes: int | None = None
    """So much data a person is willing to lose."""
    approved: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One guard's no, with what a person can do about it. ``approvable``: a person can say yes to it."""

    guard: Guard
    detail: str
    approvable: bool = False


def refusal(facts: GuardFacts, passing: Collection[Guard] = ()) -> Refusal | None:
    """The first guard that says no, those in ``passing`` left out; None when the plan may run."""
    for guard, judge in _GUARDS:
        detail = None if guard in passing else judge(facts)
        if detail is not None:
            return Refusal(guard=guard, detail=detail, approvable=_approvable(guard, facts))
    return None


def _approvable(guard: Guard, f: GuardFacts) -> bool:
    if guard is Guard.DATA_LOSS:
        if f.unproved and f.accepted_bytes is None:
            return False
        return f.possible_loss is not None and f.possible_loss.known
    return guard is Guard.APPROVAL


def _stop(f: GuardFacts) -> str | None:
    return None if f.stopped is None else _switched(f.stopped, "automation is switched off")


def _observe(f: GuardFacts) -> str | None:
    return None if f.observing is None else _switched(f.observing, "observe-only, nothing is changed")


def _switched(by: Switch, what: str) -> str:
    about = f" for {by.scope}" if by.scope else ""
    why = f" ({by.reason})" if by.reason else ""
    return f"{what}{about}, by {by.actor}{why}; let it act again: {by.way_back}"


def _revision(f: GuardFacts) -> str | None:
    return f.revision_problem


def _maintenance(f: GuardFacts) -> str | None:
    if f.maintenance is None:
        return None
    window, until = f.maintenance
    why = f" ({window.reason})" if window.reason else ""
    return f"maintenance until {until:%H:%M:%S} UTC{why}; end it: ha-tasks maintenance end {window.id}"


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
    """A primary that has just begun answers badly for a while: sessions come back all at once."""
    if f.promoted_at is None or f.promoted_at + timedelta(seconds=f.just_promoted_s) <= f.now:
        return None
    ago = (f.now - f.promoted_at).total_seconds()
    return (
        f"the primary was promoted {ago:.0f} s ago and is left alone for {f.just_promoted_s:.0f} s; "
        f"not to wait: ha-tasks recover {f.plan.service}"
    )


def _concurrent(f: GuardFacts) -> str | None:
    return f"{f.running} recoveries are running" if f.running >= f.max_running else None


def _rate(f: GuardFacts) -> str | None:
    if f.runs_last_hour < f.max_runs_per_hour:
        return None
    return f"{f.runs_last_hour} recoveries within the last hour"


def _blast(f: GuardFacts) -> str | None:
    """Whatever fails everywhere at once is not mended by working through all of it."""
    need, share = f.plan.guards.min_healthy, f.plan.guards.max_share
    if f.healthy_others < need:
        return f"only {f.healthy_others} other healthy instances, {need} needed"
    out = f.taken_out - set(f.plan.targets)
    most = max(1, int(share * f.pool))
    if not out or len(out) + len(f.plan.targets) <= most:
        return None
    return (
        f"{', '.join(sorted(out))} of {f.plan.service} is still out, at most {most} of {f.pool} at a time; "
        f"put back what is healthy: ha-tasks ack {f.plan.service}"
    )


def _upstream(f: GuardFacts) -> str | None:
    if not f.upstreams:
        return f"the primary {f.silent_primary} does not answer" if f.silent_primary else None
    names = ", ".join(f"{u.service} (I-{u.incident})" for u in f.upstreams)
    return f"it depends on {names}, which must be recovered first"


def _frozen(f: GuardFacts) -> str | None:
    if f.frozen_by is None:
        return None
    return f"incident {f.frozen_by} left it half recovered; when mended: ha-tasks ack I-{f.frozen_by}"


def _silent(f: GuardFacts) -> str | None:
    return f"the agent on {f.silent_host} does not answer" if f.silent_host else None


def _stalled(f: GuardFacts) -> str | None:
    """Loudly: commits wait until a standby is back, or until a person decides otherwise."""
    if f.stalled is None:
        return None
    return (
        f"nobody of {f.stalled} receives WAL: commits wait until one is back (policy durability); "
        f'to go on without a standby: policy = "availability" in [services.{f.plan.service}.postgres]'
    )


def _loss(f: GuardFacts) -> str | None:
    """An acceptance is of so many bytes, not of whatever it turns out to be."""
    if f.unproved and f.accepted_bytes is None:
        return (
            f"how much would be lost is not known: {'; '.join(f.unproved)}. If {f.plan.service} comes back, "
            f"mend that (docs/runbooks/data-at-risk.md); to promote the furthest standby all the same: "
            f"ha-tasks recover {f.plan.service} --accept-data-loss=BYTES"
        )
    loss = f.possible_loss
    if loss is None:
        return None
    if loss.bytes is None or loss.seconds is None:
        return "how much would be lost is not known: no position of the primary, or of a standby, was seen"
    if f.accepted_bytes is None and loss.seconds <= f.rpo_s:
        return None
    if f.accepted_bytes is not None and loss.bytes <= f.accepted_bytes:
        return None
    accepted = "" if f.accepted_bytes is None else f", and only {f.accepted_bytes} are accepted"
    return f"{loss.bytes} bytes ({loss.seconds:.1f} s) may be lost, the RPO is {f.rpo_s:g} s{accepted}"


def _approval(f: GuardFacts) -> str | None:
    if f.approved or f.plan.guards.approval is Approval.NEVER:
        return None
    return f"{f.plan.playbook} runs only when a person has approved it"


_GUARDS: tuple[tuple[Guard, Callable[[GuardFacts], str | None]], ...] = (
    (Guard.STOP_SWITCH, _stop),
    (Guard.OBSERVE_ONLY, _observe),
    (Guard.REVISION, _revision),
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
    (Guard.DURABILITY, _stalled),
    (Guard.DATA_LOSS, _loss),
    (Guard.APPROVAL, _approval),
)
