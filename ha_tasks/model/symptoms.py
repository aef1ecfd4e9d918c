"""What the outcomes of one target show: is it gone, does a share of its probes fail, is it slow, since when.

Pure, and the same for any kind of service. The outcomes of every vantage are walked through once, in the
order in which they were sent, so that it does not matter when and how often they arrived:

*Gone*: a quorum of vantages was refused twice in a row, each. A refused connection is an answer: nobody
listens there. An answer with an error is one as well, if it comes three times. Silence may be the network
or a busy moment, so it takes patience: nobody was answered for ``silence_s``, by the probes themselves,
from the first failed one to the moment at which the last one was known to have failed; while others are
answered, each of a quorum for twice as long. A service whose mere restart takes ``restart_s`` (of its
check) is given that time before a refusal counts.

*Failing*: a share of the probes fails, as in a gray failure. Each vantage keeps the sum of Page's test
(E. S. Page, Continuous Inspection Schemes, Biometrika 41, 1954): a failure adds what speaks for
``failing_share`` against ``lossy_share``, a success takes away, never below zero. Only the vantages that
are left when the worst are set aside count, so that no path, and no minority of paths, condemns a target.

*Relapsing*: once a target is given up it must be well for ``calm_s`` to be trusted again. A crash loop is
one alarm, not one for each of its restarts. What ends a crash also ends what it said about a share of
failures: one lost packet after it is no second failure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from operator import attrgetter
from statistics import median

from ha_tasks.model.platform import Check
from ha_tasks.model.probe import OutcomeKind, ProbeOutcome

MISSED = timedelta(seconds=1)
"""A vantage that missed its own schedule by more was busy or paused: what it saw before is discarded,
whoever judges."""
REFUSED_IN_A_ROW = 2
ERRORS_IN_A_ROW = 3
"""Of refusals and errors together. Less is a hiccup of something in between."""
SAME_TURN = 0.8
"""Share of an interval: probes that are closer together are second looks of one turn, not two in a row."""
FEWEST_UNANSWERED = 4
"""So many probes in a row, of all vantages, must fail before a target is gone, unless a quorum was refused.
Four lost packets in a row are one in 160,000 at a loss of 5 %."""
FEWEST_CUT_OFF = 3
"""So many in a row at each of a quorum of vantages, while others are answered."""
CAP = 2.5
"""So much of its share of the evidence a vantage keeps at most: what is long over need not be outlived."""
DOUBT = 0.5
"""Share of the evidence below which an alarm begins to calm down."""
SUSPICION = 0.3
CALM_PROBES = 4
"""So many intervals a target must be well at least: of rare probes the time alone would be one of them."""
SPREAD = 2.0
"""So many times what silence may take failures must be apart to be a share of failures."""
LEAST_SAMPLES = 3
"""Of each vantage: fewer probes have no latency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """The knobs of the detector; docs/howto/tune-the-detector.md says what each costs.

    ``silence_s`` is how long nobody may be answered. ``evidence`` is the logarithm of the odds that a share
    of failures must reach, of probes each second; of rarer ones it is less, for the same number of false
    alarms in a year. ``slow_factor`` times its usual latency, and ``slow_share`` of the timeout, is
    slow, if it lasts for ``slow_s``.
    """

    silence_s: float = 1.5
    failing_share: float = 0.3
    lossy_share: float = 0.05
    evidence: float = 7.5
    calm_s: float = 8.0
    slow_factor: float = 6.0
    slow_share: float = 0.2
    slow_s: float = 5.0

    @property
    def against(self) -> float:
        """What one failed probe adds."""
        return math.log(self.failing_share / self.lossy_share)

    @property
    def for_it(self) -> float:
        """What one good probe takes away."""
        return math.log((1 - self.lossy_share) / (1 - self.failing_share))


TUNING = Tuning()


@dataclass(frozen=True, slots=True, kw_only=True)
class Symptoms:
    """``score`` is the evidence for a failing share, 1 where it suffices. ``alarm``: it is given up, or was
    and has not been well for long enough. ``failing``: it is at this moment.
    """

    gone: bool = False
    score: float = 0.0
    alarm: bool = False
    failing: bool = False
    evidence: str = "answers"
    since: datetime | None = None
    """Sent time of the first failed probe of what stands now."""
    latency_s: float | None = None
    """Of the latest good probes, at the quickest half of the vantages; None: there are none."""
    usual_s: float | None = None
    slow: bool = False
    suspicious: bool = False
    """Some probe has just failed, or many have lately."""


def quorum(vantages: int, least: int) -> int:
    """How many must agree: a majority of the fresh ones, and never fewer than the minimum."""
    return max(least, vantages // 2 + 1)


def window_s(check: Check) -> float:
    """How far back outcomes are worth to be read: 30 probes of each vantage, longer than an alarm takes to
    calm down, and than whatever rule needs most patience.
    """
    return max(15.0, 30 * check.interval_s, (SPREAD + 1) * check.restart_s)


def fresh_s(check: Check) -> float:
    """A vantage whose latest probe is older does not count: two intervals, and what one probe may take."""
    return 2 * check.interval_s + check.timeout_s + MISSED.total_seconds()


def by_vantage(
    outcomes: Sequence[ProbeOutcome], check: Check, now: datetime, ahead: timedelta
) -> dict[str, list[ProbeOutcome]]:
    """One target's outcomes by vantage, oldest first: of those that have looked lately, since their last
    pause, each probe once. What is stamped later than ``ahead`` from now comes from a wrong clock.
    """
    grouped: dict[str, dict[datetime, ProbeOutcome]] = {}
    latest = now + ahead
    for outcome in outcomes:
        if outcome.sent_at <= latest:
            mine = grouped.setdefault(outcome.vantage, {})
            other = mine.setdefault(outcome.sent_at, outcome)
            if other is not outcome:
                mine[outcome.sent_at] = min(other, outcome, key=_worst_first)
    gap = timedelta(seconds=check.interval_s + check.timeout_s) + MISSED
    fresh_after = now - timedelta(seconds=fresh_s(check))
    return {
        vantage: _since_gap([found[sent] for sent in sorted(found)], gap)
        for vantage, found in sorted(grouped.items())
        if max(found) >= fresh_after
    }


def _worst_first(outcome: ProbeOutcome) -> tuple[bool, str, datetime, float]:
    return outcome.ok, outcome.kind, outcome.known_at, outcome.rtt_s


def read(
    seen: Mapping[str, Sequence[ProbeOutcome]],
    check: Check,
    least: int,
    tuning: Tuning = TUNING,
    usual_s: float | None = None,
) -> Symptoms:
    """``seen``: see by_vantage. ``least``: the fewest vantages that may condemn. ``usual_s``: its usual
    latency; None: the older half of ``seen`` says it.
    """
    slow = _latency(seen, quorum(len(seen), least), tuning, check, usual_s)
    late = timedelta(seconds=check.timeout_s) + MISSED
    probes = [o for found in seen.values() for o in found if o.ok or o.known_at - o.sent_at <= late]
    probes.sort(key=attrgetter("sent_at"))  # stable: of one moment, in the order of the vantages
    first = next((number for number, outcome in enumerate(probes) if not outcome.ok), None)
    if first is None:
        return slow
    walk = _Walk(vantages=list(seen), least=least, tuning=tuning, check=check)
    for outcome in probes[first:]:
        walk.take(outcome)
    return walk.symptoms(slow)


@dataclass(slots=True, kw_only=True)
class _Failures:
    """A stretch of probes in which some failed."""

    probes: int = 0
    failed: int = 0
    first: datetime | None = None
    last: datetime | None = None
    known: datetime | None = None
    """When the one that took longest was known to have failed."""
    kind: OutcomeKind = OutcomeKind.OK
    at: set[str] = field(default_factory=set)
    refused_at: set[str] = field(default_factory=set)
    refused: int = 0
    """In a row, up to the last one."""
    denied: int = 0
    """Refused or answered with an error, likewise."""
    denied_since: datetime | None = None

    def add(self, outcome: ProbeOutcome) -> None:
        self.failed += 1
        self.first = self.first or outcome.sent_at
        self.last, self.kind = outcome.sent_at, outcome.kind
        self.known = outcome.known_at if self.known is None else max(self.known, outcome.known_at)
        self.at.add(outcome.vantage)
        if outcome.kind is OutcomeKind.REFUSED:
            self.refused_at.add(outcome.vantage)
        self.refused = self.refused + 1 if outcome.kind is OutcomeKind.REFUSED else 0
        if outcome.kind is OutcomeKind.TIMEOUT:
            self.denied, self.denied_since = 0, None
        else:
            self.denied, self.denied_since = self.denied + 1, self.denied_since or outcome.sent_at

    def lasts(self, least: timedelta) -> bool:
        """All of it failed, for so long."""
        return self.first is not None and self.known is not None and self.known - self.first >= least

    def denies(self, least: timedelta) -> bool:
        """Something there says no, often enough and for so long."""
        enough = self.refused >= REFUSED_IN_A_ROW or self.denied >= ERRORS_IN_A_ROW
        if not enough or self.known is None or self.denied_since is None:
            return False
        return self.known - self.denied_since >= least


class _Walk:
    """The state on the way through the outcomes."""

    def __init__(self, *, vantages: Sequence[str], least: int, tuning: Tuning, check: Check) -> None:
        of_all = len(vantages)
        self._of_all = of_all
        self._agree = quorum(of_all, least)
        self._counted = max(1, min(self._agree, of_all - 1))
        self._against, self._for_it = tuning.against, tuning.for_it
        evidence = tuning.evidence - math.log(check.interval_s)
        self._enough = evidence * self._counted / of_all
        self._cap = CAP * evidence / of_all
        self._restart = timedelta(seconds=check.restart_s)
        self._denial = max(self._restart, SAME_TURN * timedelta(seconds=check.interval_s))
        self._silence = max(timedelta(seconds=tuning.silence_s), self._restart)
        self._calm = timedelta(seconds=max(tuning.calm_s, CALM_PROBES * check.interval_s))
        self._sums = dict.fromkeys(vantages, 0.0)
        self._row = _Failures()
        """Since the last success of anybody: all of it failed."""
        self._rows = {vantage: _Failures() for vantage in vantages}
        """Since the last success of each."""
        self._run = _Failures()
        """Since the evidence was last at zero."""
        self._score = 0.0
        self._gone = False
        self._alarm_at: datetime | None = None
        """When the alarm was last not calm; None: there is none."""

    def take(self, outcome: ProbeOutcome) -> None:
        """The next one, in the order in which they were sent."""
        self._run.probes += 1
        if outcome.ok:
            self._good(outcome.vantage)
        else:
            self._bad(outcome)
        was_gone, self._gone = self._gone, self._is_gone()
        if was_gone and not self._gone:
            self._sums = dict.fromkeys(self._sums, 0.0)
            self._run = _Failures()
        # The least that any choice of so many vantages says, counted as if all of them said it.
        self._score = sum(sorted(self._sums.values())[: self._counted]) / self._enough
        self._remember(outcome)

    def _remember(self, outcome: ProbeOutcome) -> None:
        share = self._score >= 1 and _apart(self._run) >= SPREAD * self._silence
        if self._gone or share or (self._alarm_at and not outcome.ok and self._score > DOUBT):
            self._alarm_at = outcome.sent_at
        elif self._alarm_at and self._score <= DOUBT and outcome.sent_at - self._alarm_at >= self._calm:
            self._alarm_at = None

    def _good(self, vantage: str) -> None:
        if self._row.failed:
            self._row = _Failures()
        if self._rows[vantage].failed:
            self._rows[vantage] = _Failures()
        left = self._sums[vantage] - self._for_it
        self._sums[vantage] = max(0.0, left)
        if left <= 0 and not any(self._sums.values()):
            self._run = _Failures()

    def _bad(self, outcome: ProbeOutcome) -> None:
        for failures in (self._row, self._rows[outcome.vantage], self._run):
            failures.add(outcome)
        self._sums[outcome.vantage] = min(self._cap, self._sums[outcome.vantage] + self._against)

    def _is_gone(self) -> bool:
        row, rows = self._row, self._rows.values()
        if sum(each.denies(self._denial) for each in rows) >= self._agree:
            return True
        if row.lasts(self._silence):
            unanswered = row.failed >= FEWEST_UNANSWERED and len(row.at) >= self._agree
            if unanswered or len(row.refused_at) >= self._agree:
                return True
        cut_off = (each.failed >= FEWEST_CUT_OFF and each.lasts(SPREAD * self._silence) for each in rows)
        return sum(cut_off) >= self._agree

    def symptoms(self, slow: Symptoms) -> Symptoms:
        """What the walk has come to; ``slow`` is what was found about latency."""
        gone, alarm = self._gone, self._alarm_at is not None
        firsts = [row.first for row in self._rows.values() if row.first is not None]
        return replace(
            slow,
            gone=gone,
            score=self._score,
            alarm=alarm,
            failing=alarm and (gone or (bool(firsts) and self._score > DOUBT)),
            suspicious=bool(firsts) or self._score >= SUSPICION,
            evidence=self._evidence(gone=gone, alarm=alarm),
            since=min(firsts, default=self._run.first),
        )

    def _evidence(self, *, gone: bool, alarm: bool) -> str:
        run, rows = self._run, [row for row in self._rows.values() if row.failed]
        where = f"at {len(rows if gone else run.at)} of {self._of_all} vantages"
        if gone:
            lasted_s = max((r.known - r.first).total_seconds() for r in rows if r.known and r.first)
            return f"{_WHY[rows[0].kind]} for {lasted_s:.1f} s {where}"
        if run.failed:
            return f"{run.failed} of {run.probes} probes failed {where} ({_WHY[run.kind]})"
        return "answers again, not for long enough to be trusted" if alarm else "answers"


_WHY = {
    OutcomeKind.OK: "answers",
    OutcomeKind.REFUSED: "connection refused",
    OutcomeKind.TIMEOUT: "no answer",
    OutcomeKind.ERROR: "answers with errors",
}


def _apart(failures: _Failures) -> timedelta:
    if failures.first is None or failures.last is None:
        return timedelta(0)
    return failures.last - failures.first


def _since_gap(outcomes: Sequence[ProbeOutcome], gap: timedelta) -> list[ProbeOutcome]:
    """Those after the last pause that is longer than ``gap``."""
    begins = [n for n, (a, b) in enumerate(pairwise(outcomes), 1) if b.sent_at - a.sent_at > gap]
    return list(outcomes[begins[-1] :] if begins else outcomes)


def _latency(
    seen: Mapping[str, Sequence[ProbeOutcome]],
    agree: int,
    tuning: Tuning,
    check: Check,
    usual_s: float | None,
) -> Symptoms:
    """Slow at a quorum of vantages, by the median of its latest probes; a failed one took the timeout."""
    recent_s = max(tuning.slow_s, LEAST_SAMPLES * check.interval_s)
    medians, before = [], []
    for found in seen.values():
        begin = found[-1].sent_at - timedelta(seconds=recent_s)
        recent = [o.rtt_s if o.ok else check.timeout_s for o in found if o.sent_at > begin]
        before += [o.rtt_s for o in found if o.ok and o.sent_at <= begin]
        if len(recent) >= LEAST_SAMPLES:
            medians.append(median(recent))
    if len(medians) < agree:
        return Symptoms(usual_s=usual_s)
    latency_s = sorted(medians, reverse=True)[agree - 1]
    if usual_s is None and len(before) >= LEAST_SAMPLES * len(seen):
        usual_s = median(before)
    if usual_s is None:
        return Symptoms(latency_s=latency_s)
    slow = latency_s >= max(tuning.slow_factor * usual_s, tuning.slow_share * check.timeout_s)
    return Symptoms(latency_s=latency_s, usual_s=usual_s, slow=slow)
