"""One detector on one episode, and what many of them come to. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.benchmarks.detector.episodes import FAULTS, NOISES, Episode, Setting, episode
from tests.benchmarks.detector.peers import CONTENDERS, Contender

TICK_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """``alarms_s``: when its alarm went on, seconds after the fault (of a healthy episode: after its
    warm-up; negative: too early).
    """

    contender: str
    noise: str
    fault: str | None
    alarms_s: tuple[float, ...]

    @property
    def right(self) -> bool:
        """It found the fault, and cried before no other; or there was none, and it kept quiet."""
        return not self.alarms_s if self.fault is None else bool(self.alarms_s) and self.alarms_s[0] >= 0

    @property
    def took_s(self) -> float | None:
        """From the fault to the alarm."""
        return self.alarms_s[0] if self.fault is not None and self.right else None


def plan(setting: Setting, first_seed: int, episodes: int) -> Iterable[tuple[int, str, str | None]]:
    """Seed, noise and fault of each: half healthy, the noises and the faults in equal shares."""
    for number in range(episodes):
        fault = None if number % 2 == 0 else FAULTS[number // 2 % len(FAULTS)]
        yield first_seed + number, NOISES[(number // 2) % len(NOISES)], fault


def play(name: str, setting: Setting, what: Episode) -> Played:
    """Tells it everything at the time at which it was known, and notes each time its alarm goes on."""
    contender = CONTENDERS[name](setting)
    alarms: list[float] = []
    on = False
    for at_s, heard in _moments(what, contender):
        for number in heard:
            contender.hear(what.outcomes[number])
        says = contender.on(at_s)
        if says is not None:
            if says and not on:
                alarms.append(at_s - what.fault_at_s)
            on = says
    return Played(contender=name, noise=what.noise, fault=what.fault, alarms_s=tuple(alarms))


def _moments(what: Episode, contender: Contender) -> Iterable[tuple[float, Sequence[int]]]:
    """Each arrival, and between them the ticks of those that judge by the time that passes."""
    tick_s = 0.0
    for number, at_s in enumerate(what.arrivals):
        if what.extra[number] and not contender.looks_again:
            continue
        while contender.ticks and tick_s < at_s:
            yield tick_s, ()
            tick_s += TICK_S
        yield at_s, (number,)
    while contender.ticks and tick_s <= what.end_s:
        yield tick_s, ()
        tick_s += TICK_S


def contest(setting: Setting, first_seed: int, episodes: int, names: Sequence[str]) -> list[Played]:
    """Every contender on the same episodes."""
    played = []
    for seed, noise, fault in plan(setting, first_seed, episodes):
        what = episode(seed, setting, noise, fault)
        played += [play(name, setting, what) for name in names]
    return played
