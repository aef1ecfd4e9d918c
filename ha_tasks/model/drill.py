"""A drill: a rehearsed disaster, measured and judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from ha_tasks.model.plain import Json


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
