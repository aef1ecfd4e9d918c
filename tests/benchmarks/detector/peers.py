"""The detectors that are compared: ours, and those that others use, each as its documentation has it.

A contender is made for one episode, is told each outcome when it arrives, and says whether its alarm is on.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from ha_tasks.model.probe import ProbeOutcome
from ha_tasks.model.symptoms import TUNING, Tuning, window_s
from ha_tasks.model.verdict import VerdictState
from ha_tasks.recovery.failure_detector import DetectorSettings, FailureDetector
from tests.benchmarks.detector.episodes import T0, TARGET, Setting


class Contender(Protocol):
    """``on`` may be asked at any time; ``ticks``: time alone can change its mind. ``looks_again``: it is told
    of second looks as well.
    """

    ticks: bool
    looks_again: bool

    def hear(self, outcome: ProbeOutcome) -> None:
        """One outcome, when it is known."""
        ...

    def on(self, now_s: float) -> bool | None:
        """True: it holds the target for failed. None: it cannot tell, and its last word stands."""
        ...


class Ours:
    """The product's FailureDetector, asked at each arrival with all that is known by then."""

    ticks = False
    looks_again = True

    def __init__(self, setting: Setting, *, restart_s: float = 0.0, tuning: Tuning = TUNING) -> None:
        self._check = replace(setting.check, restart_s=restart_s)
        least = min(2, setting.vantages)
        self._detector = FailureDetector(DetectorSettings(min_vantages=least, tuning=tuning))
        self._known: deque[ProbeOutcome] = deque()
        self._window = timedelta(seconds=window_s(self._check))

    def hear(self, outcome: ProbeOutcome) -> None:
        self._known.append(outcome)

    def on(self, now_s: float) -> bool | None:
        now: datetime = T0 + timedelta(seconds=now_s)
        while self._known and self._known[0].sent_at < now - self._window:
            self._known.popleft()
        verdict = self._detector.judge(TARGET, list(self._known), now, self._check)
        return None if verdict.state is VerdictState.BLIND else verdict.is_alarm


class _PerVantage(ABC):
    """A rule for each vantage, and how many of them must say so."""

    ticks = False
    looks_again = False

    def __init__(self, setting: Setting, *, agree: int) -> None:
        self.agree = agree
        self.says: dict[str, bool] = {}

    def hear(self, outcome: ProbeOutcome) -> None:
        self.says[outcome.vantage] = self.judge(outcome.vantage, outcome.ok)

    @abstractmethod
    def judge(self, vantage: str, ok: bool) -> bool:
        """What this vantage says after its next outcome."""

    def on(self, now_s: float) -> bool | None:
        return sum(self.says.values()) >= self.agree


class InARow(_PerVantage):
    """Down after ``fall`` failures in a row, up after ``rise`` good ones: HAProxy's and Kubernetes' way."""

    def __init__(self, setting: Setting, *, fall: int, rise: int, agree: int) -> None:
        super().__init__(setting, agree=agree)
        self._fall, self._rise = fall, rise
        self._row: dict[str, tuple[bool, int]] = {}

    def judge(self, vantage: str, ok: bool) -> bool:
        before, count = self._row.get(vantage, (ok, 0))
        count = count + 1 if before == ok else 1
        self._row[vantage] = ok, count
        down = self.says.get(vantage, False)
        return count < self._rise if ok and down else (down or (not ok and count >= self._fall))


class InARowQuickly(InARow):
    """With HAProxy's ``fastinter``: after a failure the next probes come soon."""

    looks_again = True


class OfWindow(_PerVantage):
    """Down while ``most`` of the last ``window`` probes failed."""

    def __init__(self, setting: Setting, *, most: int, window: int, agree: int) -> None:
        super().__init__(setting, agree=agree)
        self._most, self._window = most, window
        self._last: dict[str, deque[bool]] = {}

    def judge(self, vantage: str, ok: bool) -> bool:
        last = self._last.setdefault(vantage, deque(maxlen=self._window))
        last.append(ok)
        return last.count(False) >= self._most


class Ewma(_PerVantage):
    """Down while the exponentially weighted share of failures is over a limit."""

    def __init__(self, setting: Setting, *, weight: float, limit: float, agree: int) -> None:
        super().__init__(setting, agree=agree)
        self._weight, self._limit = weight, limit
        self._share: dict[str, float] = {}

    def judge(self, vantage: str, ok: bool) -> bool:
        share = self._share.get(vantage, 0.0)
        share += self._weight * ((0.0 if ok else 1.0) - share)
        self._share[vantage] = share
        return share > self._limit


class Phi:
    """Phi accrual (Hayashibara et al., 2004) on good answers as heartbeats, with Akka's pause and deviation:
    suspicion grows with the time since the last one, by how late they usually are.
    """

    ticks = True
    looks_again = False

    def __init__(self, setting: Setting, *, limit: float, pause_s: float, agree: int) -> None:
        self._limit, self._pause_s, self._agree = limit, pause_s, agree
        self._last: dict[str, float] = {}
        self._gaps: dict[str, deque[float]] = {}
        self._usual_s = setting.interval_s

    def hear(self, outcome: ProbeOutcome) -> None:
        if not outcome.ok:
            return
        at_s = (outcome.known_at - T0).total_seconds()
        gaps = self._gaps.setdefault(outcome.vantage, deque([self._usual_s], maxlen=100))
        if outcome.vantage in self._last:
            gaps.append(at_s - self._last[outcome.vantage])
        self._last[outcome.vantage] = at_s

    def on(self, now_s: float) -> bool | None:
        return sum(self._phi(vantage, now_s) >= self._limit for vantage in self._last) >= self._agree

    def _phi(self, vantage: str, now_s: float) -> float:
        gaps = self._gaps[vantage]
        mean = sum(gaps) / len(gaps)
        deviation = max(0.1, math.sqrt(sum((g - mean) ** 2 for g in gaps) / len(gaps)))
        y = (now_s - self._last[vantage] - mean - self._pause_s) / deviation
        if y > 8:
            return 99.0
        tail = 0.5 * math.erfc(y / math.sqrt(2))
        return -math.log10(max(tail, 1e-99))


def majority(setting: Setting) -> int:
    """How many vantages a quorum is."""
    return setting.vantages // 2 + 1


CONTENDERS: Mapping[str, Callable[[Setting], Contender]] = {
    "ours": Ours,
    "ours, restart_s = 1.5": lambda s: Ours(s, restart_s=1.5),
    "3 in a row, any vantage": lambda s: InARow(s, fall=3, rise=2, agree=1),
    "3 in a row, quorum": lambda s: InARow(s, fall=3, rise=2, agree=majority(s)),
    "3 in a row, quorum, fastinter": lambda s: InARowQuickly(s, fall=3, rise=2, agree=majority(s)),
    "2 in a row, quorum": lambda s: InARow(s, fall=2, rise=2, agree=majority(s)),
    "3 of 10, quorum": lambda s: OfWindow(s, most=3, window=10, agree=majority(s)),
    "4 of 10, quorum": lambda s: OfWindow(s, most=4, window=10, agree=majority(s)),
    "EWMA 0.3 > 0.6, quorum": lambda s: Ewma(s, weight=0.3, limit=0.6, agree=majority(s)),
    "EWMA 0.2 > 0.35, quorum": lambda s: Ewma(s, weight=0.2, limit=0.35, agree=majority(s)),
    "phi 8 + 3 s, any vantage": lambda s: Phi(s, limit=8, pause_s=3, agree=1),
    "phi 8 + 3 s, quorum": lambda s: Phi(s, limit=8, pause_s=3, agree=majority(s)),
}
