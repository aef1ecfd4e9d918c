"""A drill: a rehearsed disaster, measured and judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from ha_tasks.model.incident import IncidentState
from ha_tasks.model.plain import Json
from ha_tasks.model.run import RunState
from ha_tasks.model.scenario import Expected


class DrillVerdict(StrEnum):
    """INCONCLUSIVE: it could not be judged; that is never a pass."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillReport:
    """All seconds count from the injection of the fault; None: it was not reached or not measured."""

    scenario: str
    verdict: DrillVerdict
    reasons: tuple[str, ...]
    injected_at: datetime
    outage_s: float | None
    detected_s: float | None
    decided_s: float | None
    acted_s: float | None
    verified_s: float | None
    acked: int
    lost: int | None
    stale: int
    failed: int
    rto_objective_s: float
    rpo_objective_s: float
    steps: tuple[Json, ...]
    incident: int | None
    run: int | None
    acknowledged_cooldowns: tuple[str, ...] = ()
    served: Served | None = None
    """None: no application ran beside it."""
    timeline: tuple[Json, ...] = ()
    """What was told while it went on: ``{"at_s": seconds, "text": ...}``."""
    left: tuple[str, ...] = ()
    extra: Json = field(default_factory=dict)

    def to_json(self) -> Json:
        """The report in the form that is promised: ``schema`` 1."""
        return {
            "schema": 1,
            "scenario": self.scenario,
            "verdict": str(self.verdict),
            "reasons": list(self.reasons),
            "injected_at": self.injected_at.isoformat(),
            "outage_s": self.outage_s,
            "detected_s": self.detected_s,
            "decided_s": self.decided_s,
            "acted_s": self.acted_s,
            "verified_s": self.verified_s,
            "writes": {
                "acked": self.acked,
                "failed": self.failed,
                "lost": self.lost,
                "stale": self.stale,
            },
            "rto": {"objective_s": self.rto_objective_s, "measured_s": self.outage_s},
            "rpo": {"objective_s": self.rpo_objective_s, "measured_rows": self.lost},
            "steps": list(self.steps),
            "incident": self.incident,
            "run": self.run,
            "acknowledged_cooldowns": list(self.acknowledged_cooldowns),
            "application": self.served.to_json() if self.served else None,
            "timeline": list(self.timeline),
            "left": list(self.left),
            **self.extra,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What an application's own clients saw from the fault on: requests, failed ones, the longest gap."""

    requests: int
    failed: int
    longest_gap_s: float | None

    def to_json(self) -> Json:
        """As it stands in the report."""
        return {"requests": self.requests, "failed": self.failed, "longest_gap_s": self.longest_gap_s}


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What came of it. ``None``: it could not be observed."""

    incident: IncidentState | None
    run: RunState | None
    outage_s: float | None
    rto_s: float
    acked_after: int
    failed: int
    lost: int | None
    stale: int
    before: Json
    after: Json
    missed: tuple[str, ...] = ()
    """What the drill waited for in vain, or could not do."""
    left: tuple[str, ...] = ()
    """What is not as it was before, although every fault is healed."""


def judge_drill(expected: Expected, seen: Observed) -> tuple[DrillVerdict, tuple[str, ...]]:
    """The verdict, and each reason against it. What could not be observed is INCONCLUSIVE."""
    unknown = _unknown(expected, seen)
    wrong = [text for fails, text in (*_course(expected, seen), *_service(expected, seen)) if fails]
    wrong += _evidence(expected, seen)
    wrong += [f"left behind: {what}" for what in seen.left]
    if wrong:
        return DrillVerdict.FAIL, tuple(wrong + unknown)
    if unknown:
        return DrillVerdict.INCONCLUSIVE, tuple(unknown)
    return DrillVerdict.PASS, ()


def _unknown(expected: Expected, seen: Observed) -> list[str]:
    checks = (
        (bool(expected.incident) and seen.incident is None, "no incident was opened"),
        (bool(expected.run) and seen.run is None, "no run was started"),
        (seen.lost is None, "acknowledged writes could not be read back"),
    )
    return [text for fails, text in checks if fails] + list(seen.missed)


def _course(expected: Expected, seen: Observed) -> tuple[tuple[bool, str], ...]:
    """What was done about it."""
    incident, run = seen.incident, seen.run
    return (
        (
            bool(expected.incident) and incident is not None and incident not in expected.incident,
            f"the incident is {incident}, expected {' or '.join(expected.incident)}",
        ),
        (
            bool(expected.run) and run is not None and run not in expected.run,
            f"the run is {run}, expected {' or '.join(expected.run)}",
        ),
        (expected.no_incident and incident is not None, "an incident was opened, none may be"),
    )


def _service(expected: Expected, seen: Observed) -> tuple[tuple[bool, str], ...]:
    """What its clients saw."""
    outage, lost = seen.outage_s, seen.lost or 0
    objective = min(seen.rto_s, expected.outage_at_most_s)
    return (
        (lost > 0, f"{lost} acknowledged writes are lost"),
        (seen.stale > 0, f"{seen.stale} writes were acknowledged by a superseded primary"),
        (expected.zero_failed and seen.failed > 0, f"{seen.failed} requests failed, none may"),
        (seen.acked_after == 0, "nothing was acknowledged after the fault"),
        (seen.acked_after > 0 and outage is None, "it was away again when the load ended"),
        (
            expected.outage_is_promised and outage is not None and outage > objective,
            f"the outage of {outage or 0.0:.1f} s is above the objective of {objective:.0f} s",
        ),
    )


def _evidence(expected: Expected, seen: Observed) -> list[str]:
    """Compares what the resources themselves counted."""
    wrong = []
    for key in expected.unchanged:
        if seen.before.get(key) != seen.after.get(key):
            wrong.append(f"{key} was {seen.before.get(key)} and is {seen.after.get(key)}")
    for key in expected.grown_by_one:
        before, after = seen.before.get(key), seen.after.get(key)
        if before is None or after is None or after - before != 1:
            wrong.append(f"{key} was {before} and is {after}: the effect was not applied once")
    return wrong


def merged(scenario: str, rounds: Sequence[DrillReport]) -> DrillReport:
    """One report of several rounds: the worst of each; every round's own stands in ``rounds``."""
    worst = max(rounds, key=lambda r: (_SEVERITY.index(r.verdict), r.outage_s or 0.0))
    reasons = tuple(f"round {n}: {reason}" for n, r in enumerate(rounds, 1) for reason in r.reasons)
    unread = any(r.lost is None for r in rounds)
    return replace(
        worst,
        scenario=scenario,
        reasons=reasons,
        acked=sum(r.acked for r in rounds),
        failed=sum(r.failed for r in rounds),
        stale=sum(r.stale for r in rounds),
        lost=None if unread else sum(r.lost or 0 for r in rounds),
        extra={"rounds": [r.to_json() for r in rounds]},
    )


_SEVERITY = (DrillVerdict.PASS, DrillVerdict.INCONCLUSIVE, DrillVerdict.FAIL)
