"""What the detector says about one target."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ha_tasks.model.evidence import Remedy
from ha_tasks.model.probe import Target


class VerdictState(StrEnum):
    """BLIND is too few fresh vantages: an alert, never a reason to act."""

    HEALTHY = "healthy"
    SUSPECT = "suspect"
    FAILED = "failed"
    FLAPPING = "flapping"
    BLIND = "blind"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """``failing_since`` is the sent time of the first failed probe of the failure that stands now."""

    target: Target
    state: VerdictState
    evidence: str
    vantages: tuple[str, ...] = ()
    failing_since: datetime | None = None
    unheard_since: datetime | None = None
    """Of a member of a synchronous set: so long the primary has sent it nothing, if that is too long."""
    score: float | None = None
    """Health from 0 (down) to 1 (healthy); None when unknown."""
    remedy: Remedy = Remedy.NONE
    """What the evidence about a PostgreSQL primary calls for; CHANGE_SET with SUSPECT: it serves reads."""
