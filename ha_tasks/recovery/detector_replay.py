"""What the FailureDetector makes of recorded probes, and how often it is right. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter

from ha_tasks.model.platform import Check
from ha_tasks.model.probe import ProbeOutcome, Target
from ha_tasks.model.symptoms import window_s
from ha_tasks.model.verdict import VerdictState
from ha_tasks.recovery.failure_detector import FailureDetector
from ha_tasks.recovery.probe_recording import Down, Recording

LATE = timedelta(seconds=30)
"""An alarm that begins so long after a failure has ended, or later, is not its alarm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """From ``begin`` until ``end`` the target was given up; ``end`` None: it stood at the end."""

    target: Target
    begin: datetime
    end: datetime | None
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """``took_s``: from the failure to its alarm; None: it was missed. ``alarms``: how many it had."""

    down: Down
    took_s: float | None
    alarms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """``found`` and ``false`` are about the services of which a person has said what was true."""

    probes: int
    alarms: tuple[Alarm, ...]
    found: tuple[Found, ...] = ()
    false: tuple[Alarm, ...] = ()


def replayed(recording: Recording, detector: FailureDetector) -> Replay:
    """Each target is judged whenever an outcome of it was known, by what was known then."""
    alarms = [
        alarm
        for target in sorted(recording.probes)
        for alarm in alarms_of(
            target,
            recording.probes[target],
            recording.check(target.service),
            detector,
        )
    ]
    false = [a for a in alarms if a.target.service in recording.scored and not _is_of_any(a, recording)]
    true = [a for a in alarms if a not in false]
    found = [_found(down, true) for down in sorted(recording.downs, key=lambda d: (d.begin, d.target))]
    return Replay(
        probes=sum(map(len, recording.probes.values())),
        alarms=tuple(alarms),
        found=tuple(found),
        false=tuple(false),
    )


def alarms_of(
    target: Target, outcomes: Sequence[ProbeOutcome], check: Check, detector: FailureDetector
) -> list[Alarm]:
    """One for each time at which it was given up; while it is BLIND its last word stands."""
    window = timedelta(seconds=window_s(check))
    known: deque[ProbeOutcome] = deque()
    alarms: list[Alarm] = []
    began: tuple[datetime, str] | None = None
    for outcome in sorted(outcomes, key=attrgetter("known_at")):
        known.append(outcome)
        now = outcome.known_at
        while known and known[0].sent_at < now - window:
            known.popleft()
        verdict = detector.judge(target, known, now, check)
        if verdict.is_alarm and began is None:
            began = now, verdict.evidence
        elif began is not None and not verdict.is_alarm and verdict.state is not VerdictState.BLIND:
            alarms.append(Alarm(target=target, begin=began[0], end=now, evidence=began[1]))
            began = None
    if began is not None:
        alarms.append(Alarm(target=target, begin=began[0], end=None, evidence=began[1]))
    return alarms


def _stands(alarm: Alarm, down: Down) -> bool:
    """The alarm of this failure: it began while that lasted, or soon after, or stood already."""
    early = alarm.end is None or alarm.end > down.begin
    return alarm.target == down.target and early and alarm.begin < down.end + LATE


def _found(down: Down, alarms: Sequence[Alarm]) -> Found:
    mine = [a for a in alarms if _stands(a, down)]
    took = min((a.begin for a in mine), default=None)
    took_s = None if took is None else max(0.0, (took - down.begin).total_seconds())
    return Found(down=down, took_s=took_s, alarms=len(mine))


def _is_of_any(alarm: Alarm, recording: Recording) -> bool:
    return any(_stands(alarm, down) and alarm.begin >= down.begin for down in recording.downs)
