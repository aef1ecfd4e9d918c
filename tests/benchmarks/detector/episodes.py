"""Episodes: what vantages record about one target, whose truth is known. Pure; a seed makes one episode.

An episode is 15 s of warm-up and 30 s (60 s for probes every 5 s) in which a detector may find the fault.
Each has one noise; half of them have a fault on top of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ha_tasks.model.platform import Check
from ha_tasks.model.probe import OutcomeKind, ProbeOutcome, Target
from ha_tasks.model.second_look import moments_s

T0 = datetime(2026, 11, 24, 3, 0, 0, tzinfo=UTC)
TARGET = Target(service="web", instance="web1")
WARM_S = 15.0
TIMEOUT_S = 0.5
USUAL_S = 0.02
NOISES = (
    "calm",
    "loss 1 %",
    "loss 3 %",
    "loss 5 %",
    "one path dead",
    "slow x4",
    "quick restart",
    "one vantage paused",
    "all vantages paused",
)
FAULTS = ("crash", "hang", "gray 35 %", "gray 30 %", "crash loop")
GRAY = {"gray 35 %": 0.35, "gray 30 %": 0.30}
DOWN_S, UP_S = 4.0, 6.0
"""Of a crash loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """``phases``: the vantages' schedules are "spread" evenly over the interval, or at "random" phases."""

    interval_s: float = 1.0
    vantages: int = 3
    phases: str = "random"

    @property
    def check(self) -> Check:
        """As the inventory would have it."""
        return Check(interval_s=self.interval_s, timeout_s=TIMEOUT_S)

    @property
    def deadline_s(self) -> float:
        """From the fault to the moment at which it counts as missed."""
        return 60.0 if self.interval_s >= 5 else 30.0

    @property
    def warm_s(self) -> float:
        """Before anything happens: enough for a window of ten probes."""
        return max(WARM_S, 12 * self.interval_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """``outcomes`` in the order of arrival; ``arrivals`` are seconds after T0. ``fault`` None: healthy."""

    seed: int
    noise: str
    fault: str | None
    fault_at_s: float
    end_s: float
    outcomes: tuple[ProbeOutcome, ...]
    arrivals: tuple[float, ...]
    extra: tuple[bool, ...]
    """Which of the outcomes are of second looks: whose probe fails looks again soon."""


@dataclass(frozen=True, slots=True)
class _Span:
    begin_s: float
    end_s: float

    def holds(self, at_s: float) -> bool:
        return self.begin_s <= at_s < self.end_s


def episode(seed: int, setting: Setting, noise: str, fault: str | None) -> Episode:
    """Always the same for the same arguments."""
    dice = random.Random(f"{seed} {setting} {noise} {fault}")
    fault_at_s = setting.warm_s + dice.uniform(0, setting.interval_s)
    end_s = fault_at_s + setting.deadline_s
    trouble = _Trouble(dice, setting, noise, end_s)
    found: list[tuple[float, ProbeOutcome, bool]] = []
    other_dice = random.Random(f"again {seed} {setting} {noise} {fault}")
    offset_s = dice.uniform(0, setting.interval_s)
    for vantage in range(setting.vantages):
        if setting.phases == "random":
            offset_s = dice.uniform(0, setting.interval_s)
        else:
            offset_s = (offset_s + setting.interval_s / setting.vantages) % setting.interval_s
        at_s = offset_s
        while at_s < end_s:
            sent_s = max(0.0, at_s + dice.gauss(0, 0.01 * setting.interval_s))
            at_s += setting.interval_s
            if trouble.pause_of(vantage).holds(sent_s):
                continue
            down = _down(fault, fault_at_s, sent_s, dice)
            found.append((*_probed(dice, trouble, vantage, sent_s, down), False))
            if found[-1][1].ok:
                continue
            for later_s in moments_s(setting.interval_s):
                again_s = sent_s + later_s
                if not trouble.pause_of(vantage).holds(again_s):
                    down = _down(fault, fault_at_s, again_s, other_dice)
                    found.append((*_probed(other_dice, trouble, vantage, again_s, down), True))
    found = sorted((f for f in found if f[0] <= end_s), key=lambda f: f[0])
    return Episode(
        seed=seed,
        noise=noise,
        fault=fault,
        fault_at_s=fault_at_s,
        end_s=end_s,
        outcomes=tuple(outcome for _, outcome, _ in found),
        arrivals=tuple(arrival for arrival, _, _ in found),
        extra=tuple(extra for _, _, extra in found),
    )


class _Trouble:
    """The noise of one episode: when and whom it hits."""

    def __init__(self, dice: random.Random, setting: Setting, noise: str, end_s: float) -> None:
        self.noise = noise
        self.whom = dice.randrange(setting.vantages)
        self.loss = {"loss 1 %": 0.01, "loss 3 %": 0.03, "loss 5 %": 0.05}.get(noise, 0.0)
        lasting: dict[str, Callable[[], float]] = {
            "one path dead": lambda: dice.uniform(3, 10),
            "slow x4": lambda: dice.uniform(5, 15),
            "quick restart": lambda: dice.uniform(0.5, 1.5),
            "one vantage paused": lambda: dice.uniform(2, 6),
            "all vantages paused": lambda: dice.uniform(2, 6),
        }
        lasts_s = lasting[noise]() if noise in lasting else 0.0
        begin_s = dice.uniform(3, end_s - lasts_s)
        self.span = _Span(begin_s, begin_s + lasts_s)

    def pause_of(self, vantage: int) -> _Span:
        if self.noise == "all vantages paused" or (
            self.noise == "one vantage paused" and vantage == self.whom
        ):
            return self.span
        return _Span(0, 0)


def _down(fault: str | None, fault_at_s: float, at_s: float, dice: random.Random) -> OutcomeKind | None:
    """How the fault answers a probe that is sent then; None: it answers as always."""
    since_s = at_s - fault_at_s
    if fault is None or since_s < 0:
        return None
    if fault == "crash" or (fault == "crash loop" and since_s % (DOWN_S + UP_S) < DOWN_S):
        return OutcomeKind.REFUSED
    if fault == "hang":
        return OutcomeKind.TIMEOUT
    if dice.random() < GRAY.get(fault, 0.0):
        return dice.choice((OutcomeKind.ERROR, OutcomeKind.TIMEOUT))
    return None


def _probed(
    dice: random.Random, trouble: _Trouble, vantage: int, sent_s: float, down: OutcomeKind | None
) -> tuple[float, ProbeOutcome]:
    """When it is known, and what it came to. A vantage that pauses with a probe under way wakes to an
    answer that it takes for late: a time-out that says nothing about the target.
    """
    hit = trouble.span.holds(sent_s)
    rtt_s = USUAL_S * dice.lognormvariate(0, 0.5) * (4 if trouble.noise == "slow x4" and hit else 1)
    kind = down or OutcomeKind.OK
    if trouble.noise == "quick restart" and hit:
        kind = OutcomeKind.REFUSED
    lost = dice.random() < trouble.loss or (
        trouble.noise == "one path dead" and hit and vantage == trouble.whom
    )
    if lost or rtt_s >= TIMEOUT_S:
        kind = OutcomeKind.TIMEOUT
    if kind is OutcomeKind.TIMEOUT:
        rtt_s = TIMEOUT_S
    known_s = sent_s + rtt_s
    pause = trouble.pause_of(vantage)
    if pause.holds(known_s):
        known_s, kind, rtt_s = pause.end_s, OutcomeKind.TIMEOUT, TIMEOUT_S
    outcome = ProbeOutcome(
        target=TARGET,
        vantage=f"h{vantage + 1}/probe",
        sent_at=T0 + timedelta(seconds=sent_s),
        known_at=T0 + timedelta(seconds=known_s),
        kind=kind,
        rtt_s=rtt_s,
        probe="http",
    )
    return known_s, outcome
