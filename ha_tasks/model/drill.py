"""A drill: a rehearsed disaster, measured and judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from ha_tasks.model.incident import IncidentState
from ha_tasks.model.plain import Json
from ha_tasks.model.run import RunState


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
            **self.extra,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a scenario must come to."""

    incident: IncidentState
    run: RunState
    zero_failed: bool = False
    """Not one request may fail (idempotent requests, which the balancer sends again)."""
    unchanged: tuple[str, ...] = ()
    """Keys of the evidence that must be as before."""
    grown_by_one: tuple[str, ...] = ()
    """Keys of the evidence that must be one more than before: the effect was applied once."""


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


def judge_drill(expected: Expected, seen: Observed) -> tuple[DrillVerdict, tuple[str, ...]]:
    """The verdict, and each reason against it. What could not be observed is INCONCLUSIVE."""
    unknown = _unknown(seen)
    wrong = [text for fails, text in _faults(expected, seen) if fails]
    wrong += _evidence(expected, seen)
    if wrong:
        return DrillVerdict.FAIL, tuple(wrong + unknown)
    if unknown:
        return DrillVerdict.INCONCLUSIVE, tuple(unknown)
    return DrillVerdict.PASS, ()


def _unknown(seen: Observed) -> list[str]:
    checks = (
        (seen.incident is None, "no incident was opened"),
        (seen.run is None, "no run was started"),
        (seen.lost is None, "acknowledged writes could not be read back"),
    )
    return [text for fails, text in checks if fails]


def _faults(expected: Expected, seen: Observed) -> tuple[tuple[bool, str], ...]:
    outage, lost = seen.outage_s, seen.lost or 0
    return (
        (
            seen.incident is not None and seen.incident is not expected.incident,
            f"the incident is {seen.incident}, expected {expected.incident}",
        ),
        (
            seen.run is not None and seen.run is not expected.run,
            f"the run is {seen.run}, expected {expected.run}",
        ),
        (lost > 0, f"{lost} acknowledged writes are lost"),
        (seen.stale > 0, f"{seen.stale} writes were acknowledged by a superseded primary"),
        (expected.zero_failed and seen.failed > 0, f"{seen.failed} requests failed, none may"),
        (seen.acked_after == 0, "nothing was acknowledged after the fault"),
        (seen.acked_after > 0 and outage is None, "it was away again when the load ended"),
        (
            outage is not None and outage > seen.rto_s,
            f"the outage of {outage or 0.0:.1f} s is above the objective of {seen.rto_s:.0f} s",
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
