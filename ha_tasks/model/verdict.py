"""What the detector says about one target."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from ha_tasks.model.evidence import Remedy
from ha_tasks.model.probe import Target


class VerdictState(StrEnum):
    """From well to ill; BLIND is too few fresh vantages: an alert, never a reason to act.

    SUSPECT: some probes fail. SLOW: it answers, far later than it used to. FLAPPING: it answers again, not
    for long enough to be trusted; no new failure, and no end of the one that stands. FAILED alone is a
    reason to act.
    """

    HEALTHY = "healthy"
    SUSPECT = "suspect"
    SLOW = "slow"
    FLAPPING = "flapping"
    FAILED = "failed"
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
    latency_s: float | None = None
    """How fast it answers lately, at the quorum of vantages; None: nobody can tell."""
    judged_at: datetime | None = None
    """When the outcomes were read; what came later it does not know."""

    @property
    def is_unsettled(self) -> bool:
        """Another look may settle it."""
        return self.state in (VerdictState.SUSPECT, VerdictState.FLAPPING, VerdictState.BLIND)

    @property
    def is_doubtful(self) -> bool:
        """Neither well nor failed."""
        return self.is_unsettled or self.state is VerdictState.SLOW

    @property
    def is_alarm(self) -> bool:
        """FAILED, or not yet trusted again: one alarm, however often the target comes back in between."""
        return self.state in (VerdictState.FAILED, VerdictState.FLAPPING)


def answering(verdict: Verdict) -> Verdict:
    """One that is FLAPPING and has nothing to be held for: it answers; SUSPECT if not every time lately."""
    if verdict.state is not VerdictState.FLAPPING:
        return verdict
    if verdict.failing_since is not None:
        return replace(verdict, state=VerdictState.SUSPECT)
    return replace(verdict, state=VerdictState.HEALTHY, evidence="answers")


def too_few(target: Target, fresh: Collection[str], least: int) -> Verdict | None:
    """BLIND, if fewer vantages have looked lately than a verdict needs."""
    if len(fresh) >= least:
        return None
    text = f"{len(fresh)} of {least} vantages have looked lately"
    return Verdict(target=target, state=VerdictState.BLIND, evidence=text, vantages=tuple(fresh))


def left_out(verdict: Verdict, now: datetime) -> Verdict:
    """A standby that no commit waits for is no redundancy, however well it follows."""
    if verdict.state is not VerdictState.HEALTHY:
        return verdict
    text = "follows, but is not in the synchronous set"
    return replace(verdict, state=VerdictState.FAILED, evidence=text, failing_since=now)


def deaf(verdict: Verdict, since: datetime | None) -> Verdict:
    """An asynchronous standby that has received nothing since; None: it does. The primary may be another."""
    if since is None or verdict.state is not VerdictState.HEALTHY:
        return verdict
    text = "answers, and receives nothing from the primary"
    return replace(verdict, state=VerdictState.FAILED, evidence=text, failing_since=since)


def half_failed_over(verdict: Verdict, doubted: Sequence[str], now: datetime) -> Verdict:
    """A primary that answers is none as long as another may have been promoted: its failover has to end."""
    if not doubted or verdict.state in (VerdictState.FAILED, VerdictState.BLIND):
        return verdict
    text = f"its failover did not end: {', '.join(doubted)} may have been promoted"
    return replace(verdict, state=VerdictState.FAILED, evidence=text, failing_since=now)
