"""FailureDetector: outcomes of probes from several vantages -> a verdict per target.

Pure: it is given outcomes and the time, and says what they mean; it keeps nothing between two calls, so
any number of observers, and a replay of what they recorded, come to the same. Outcomes carry their own
timestamps; a vantage that has said nothing lately does not count, and too few vantages are BLIND: silence
of the observers is never taken for the death of what they observe.

The rules for a service's instances are model/symptoms.py, those for the nodes of a PostgreSQL cluster
cluster_detector.py. To score it in a simulation, give ``judge`` what is known at a moment, and the moment::

    detector = FailureDetector(DetectorSettings(min_vantages=2))
    verdict = detector.judge(target, outcomes, now, Check(interval_s=1.0, timeout_s=0.5))
    verdict.is_alarm    # FAILED, or FLAPPING: the same alarm still stands
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ha_tasks.model import symptoms
from ha_tasks.model.platform import Check, Service, ServiceKind
from ha_tasks.model.probe import ProbeOutcome, Target
from ha_tasks.model.symptoms import Symptoms, Tuning
from ha_tasks.model.verdict import Verdict, VerdictState, too_few
from ha_tasks.recovery.cluster_detector import ClusterDetector

AHEAD = timedelta(seconds=1)
"""How far the clocks of two observers may differ. What is stamped later than that comes from a clock that
is wrong, or was wrong: it would stand as the newest word until the time it names."""
SLOW_ALONE = 0.5
"""Share of the timeout from which an instance that is slow alone has failed: its health falls from there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorSettings:
    """``min_vantages``: fewer fresh vantages are BLIND, and fewer never condemn a target."""

    min_vantages: int = 2
    tuning: Tuning = symptoms.TUNING


class FailureDetector:
    """Judges targets; keeps nothing between two calls."""

    def __init__(self, settings: DetectorSettings) -> None:
        self._settings = settings
        self._clusters = ClusterDetector(settings.min_vantages)

    def judge(
        self,
        target: Target,
        outcomes: Sequence[ProbeOutcome],
        now: datetime,
        check: Check,
        *,
        usual_s: float | None = None,
    ) -> Verdict:
        """One target of any kind, by its own outcomes that are known at ``now``: in any order, any of them
        twice, from ``symptoms.window_s(check)`` ago or longer.

        ``check`` says how often it is probed, and when a probe gives up. ``usual_s`` is its usual latency;
        None: the older of the outcomes say it.
        """
        ahead = _ahead(outcomes, now)
        seen = symptoms.by_vantage(outcomes, check, now, AHEAD)
        return _with_clocks(self._target(target, seen, check, usual_s), ahead)

    def analyze_system_state(
        self,
        service: Service,
        outcomes: Sequence[ProbeOutcome],
        now: datetime,
        *,
        primary: str | None = None,
        usual_s: Mapping[Target, float] | None = None,
    ) -> tuple[Verdict, ...]:
        """One verdict per instance, as ``judge`` gives it.

        ``primary`` is the recorded primary of a PostgreSQL service, ``usual_s`` the usual latency of
        targets. An instance that is slow alone has failed; when others are slow as well it is the load, or
        something behind them, and to take it out would make that worse.
        """
        ahead = _ahead(outcomes, now)
        seen = {
            i.name: symptoms.by_vantage(
                [o for o in outcomes if o.target.instance == i.name], service.check, now, AHEAD
            )
            for i in service.instances
        }
        if service.kind is ServiceKind.POSTGRES:
            verdicts = self._clusters.judge(service, primary, seen)
        else:
            targets = [Target(service=service.name, instance=i.name) for i in service.instances]
            usual = usual_s or {}
            verdicts = _slow_alone(
                [self._target(t, seen[t.instance], service.check, usual.get(t)) for t in targets],
                service.check,
            )
        return tuple(_with_clocks(v, ahead) for v in verdicts)

    def _target(
        self,
        target: Target,
        seen: Mapping[str, Sequence[ProbeOutcome]],
        check: Check,
        usual_s: float | None,
    ) -> Verdict:
        least = self._settings.min_vantages
        blind = too_few(target, seen, least)
        if blind is not None:
            return blind
        found = symptoms.read(seen, check, least, self._settings.tuning, usual_s)
        state = _state(found)
        slow = f"{found.evidence}: {_times(found)}" if state is VerdictState.SLOW else found.evidence
        return Verdict(
            target=target,
            state=state,
            evidence=slow,
            vantages=tuple(seen),
            failing_since=found.since,
            latency_s=found.latency_s,
        )


def _state(found: Symptoms) -> VerdictState:
    if found.failing:
        return VerdictState.FAILED
    if found.alarm:
        return VerdictState.FLAPPING
    if found.slow:
        return VerdictState.SLOW
    return VerdictState.SUSPECT if found.suspicious else VerdictState.HEALTHY


def _times(found: Symptoms) -> str:
    return f"in {1000 * (found.latency_s or 0):.0f} ms instead of {1000 * (found.usual_s or 0):.0f} ms"


def _slow_alone(verdicts: Sequence[Verdict], check: Check) -> list[Verdict]:
    """Those that are slow are failed if nobody else is, and somebody is well."""
    slow = [v for v in verdicts if v.state is VerdictState.SLOW]
    well = [v for v in verdicts if v.state is VerdictState.HEALTHY]
    if len(slow) != 1 or not well or (slow[0].latency_s or 0) < SLOW_ALONE * check.timeout_s:
        return list(verdicts)
    text = f"{slow[0].evidence}, alone among {len(verdicts)}"
    return [replace(v, state=VerdictState.FAILED, evidence=text) if v is slow[0] else v for v in verdicts]


def _ahead(outcomes: Sequence[ProbeOutcome], now: datetime) -> list[str]:
    return sorted({o.vantage for o in outcomes if o.sent_at > now + AHEAD})


def _with_clocks(verdict: Verdict, ahead: Sequence[str]) -> Verdict:
    """Too few vantages may mean a clock, which nobody would guess from their number."""
    if verdict.state is not VerdictState.BLIND or not ahead:
        return verdict
    text = f"{verdict.evidence}; the clock of {', '.join(ahead)} is ahead of ours: look at NTP on both"
    return replace(verdict, evidence=text)
