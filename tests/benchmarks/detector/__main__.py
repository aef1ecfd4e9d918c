"""Scores failure detectors side by side: ``python -m tests.benchmarks.detector --help``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from tests.benchmarks.detector.contest import Played, contest
from tests.benchmarks.detector.episodes import FAULTS, NOISES, Setting
from tests.benchmarks.detector.peers import CONTENDERS
from tests.benchmarks.detector.tables import mistakes, table
from tests.benchmarks.machine import machine

FIRST_SEED = 5_000_000
"""The rules were designed and tuned on seeds below 1,000,000."""
BITE = 2 * len(NOISES) * len(FAULTS)
"""Every noise, healthy and with each of the faults."""
SETTINGS = {
    "1 s": Setting(),
    "1 s spread": Setting(phases="spread"),
    "0.5 s": Setting(interval_s=0.5),
    "2 s": Setting(interval_s=2.0),
    "5 s": Setting(interval_s=5.0),
    "2 vantages": Setting(vantages=2),
    "5 vantages": Setting(vantages=5),
}


def main(arguments: Sequence[str]) -> int:
    """Prints a table for each setting. Exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.detector", description=__doc__)
    parser.add_argument("--episodes", type=int, default=3600, help="of the first setting; the others a third")
    parser.add_argument("--seed", type=int, default=FIRST_SEED, help="of the first episode")
    parser.add_argument("--settings", default=",".join(SETTINGS), help="some of these, with commas between")
    asked = parser.parse_args(arguments)
    asked_for = asked.settings.split(",")
    unknown = [name for name in asked_for if name not in SETTINGS]
    if unknown:
        parser.error(f"--settings: {', '.join(unknown)} is not among {', '.join(SETTINGS)}")
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for number, name in enumerate(asked_for):
            count = asked.episodes if number == 0 else asked.episodes // 3
            show(name, played(pool, SETTINGS[name], asked.seed, count))
    print(machine())
    return 0


def played(pool: ProcessPoolExecutor, setting: Setting, first_seed: int, episodes: int) -> list[Played]:
    """A whole number of bites, so that noises and faults have equal shares."""
    bites = max(1, round(episodes / BITE))
    names = list(CONTENDERS)
    parts = [pool.submit(contest, setting, first_seed + n * BITE, BITE, names) for n in range(bites)]
    return [each for part in parts for each in part.result()]


def show(name: str, found: Sequence[Played]) -> None:
    """One setting: its table, and what ours got wrong."""
    setting = SETTINGS[name]
    each = len(found) // len(CONTENDERS)
    print(
        f"probes every {setting.interval_s:g} s from {setting.vantages} vantages at {setting.phases} phases, "
        f"{each} episodes"
    )
    print(table(found), mistakes(found, "ours"), "", sep="\n", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
