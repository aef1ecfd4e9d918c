"""Evidence that a PostgreSQL primary is gone: positive evidence acts at once, missing evidence waits.

E1  its agent says the postmaster has exited                                   at once
E2  connection refused to the quorum of vantages, and no agent says it runs    2 probes, 0.5 s
E3  no answer to the quorum of vantages, and a standby says it hears nothing   2.5 s
none  standbys still receive, or none can be asked: the observers may be at fault
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from ha_tasks.model.plain import Facts
from ha_tasks.model.probe import OutcomeKind, ProbeOutcome

REFUSED_FOR = timedelta(seconds=0.45)
"""Two refused probes, one probing interval (0.5 s) apart, less what timers are early by."""
SILENT_FOR = timedelta(seconds=2.5)
AGENT_ALIVE = "running"


class EvidenceKind(StrEnum):
    """Which row of the table above; NONE: nothing proves that it is gone."""

    EXITED = "E1"
    REFUSED = "E2"
    SILENT = "E3"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """``since``: sent time of the first failed probe of this failure."""

    kind: EvidenceKind
    text: str
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """What there is to judge by. ``agent`` is the agent's latest word; None when it is silent."""

    failing: Mapping[str, Sequence[ProbeOutcome]]
    agent: str | None
    answered_last: bool
    standbys: Sequence[ProbeOutcome]
    quorum: int

    def witnesses(self, kind: OutcomeKind, at_least: timedelta) -> int:
        """How many vantages saw nothing but that (or a refusal) for that long."""
        return sum(_lasting(tail, kind, at_least) for tail in self.failing.values())


def judge_primary(
    primary: Mapping[str, Sequence[ProbeOutcome]],
    standbys: Sequence[ProbeOutcome],
    quorum: int,
) -> Evidence:
    """Judges a primary by outcomes of fresh vantages (each oldest first) and the standbys' latest."""
    tails = {v: tail for v, outcomes in primary.items() if (tail := _failing_tail(outcomes))}
    if not tails:
        return Evidence(kind=EvidenceKind.NONE, text="the primary answers")
    since = min(tail[0].sent_at for tail in tails.values())
    latest = max((outcomes[-1] for outcomes in primary.values()), key=lambda o: o.sent_at)
    view = _View(
        failing=tails,
        agent=_agent(latest.facts),
        answered_last=latest.ok,
        standbys=standbys,
        quorum=quorum,
    )
    kind, text = _exited(view) or _refused(view) or _silent(view) or _NOTHING
    return Evidence(kind=kind, text=text, since=since)


_Found = tuple[EvidenceKind, str]
_NOTHING: _Found = (EvidenceKind.NONE, "some probes fail; not enough to act on")


def _exited(view: _View) -> _Found | None:
    if view.agent != "exited" or view.answered_last:
        return None
    return EvidenceKind.EXITED, "its agent saw the postmaster exit"


def _refused(view: _View) -> _Found | None:
    count = view.witnesses(OutcomeKind.REFUSED, REFUSED_FOR)
    if view.agent == AGENT_ALIVE or count < view.quorum:
        return None
    said = "its agent is silent" if view.agent is None else "its agent found no postmaster"
    return EvidenceKind.REFUSED, f"refused to {count} vantages, {said}"


def _silent(view: _View) -> _Found | None:
    count = view.witnesses(OutcomeKind.TIMEOUT, SILENT_FOR)
    heard = [s.facts["receiving"] for s in view.standbys if "receiving" in s.facts]
    # When no standby can be asked either, the trouble may be the observers' own.
    if count < view.quorum or not heard or any(heard):
        return None
    return EvidenceKind.SILENT, f"no answer to {count} vantages, no standby hears from it"


def _failing_tail(outcomes: Sequence[ProbeOutcome]) -> list[ProbeOutcome]:
    """The failures since the last good probe; an error text is an answer, so it is no failure here.

    A server that is starting up or has too many clients says so: it is alive.
    """
    tail: list[ProbeOutcome] = []
    for outcome in reversed(outcomes):
        gone = _agent(outcome.facts) == "exited"
        if outcome.kind in (OutcomeKind.OK, OutcomeKind.ERROR) and not gone:
            break
        tail.append(outcome)
    return tail[::-1]


def _lasting(tail: Sequence[ProbeOutcome], kind: OutcomeKind, at_least: timedelta) -> bool:
    """True when the last probes were all of that kind (or refused, which is stronger) for that long."""
    kinds = (kind, OutcomeKind.REFUSED)
    same: list[ProbeOutcome] = []
    for outcome in reversed(tail):
        if outcome.kind not in kinds:
            break
        same.append(outcome)
    return len(same) >= 2 and same[0].sent_at - same[-1].sent_at >= at_least


def _agent(facts: Facts) -> str | None:
    """What the node's agent says of the postmaster; None when it is silent."""
    agent = facts.get("agent")
    return agent.get("postmaster") if agent else None
