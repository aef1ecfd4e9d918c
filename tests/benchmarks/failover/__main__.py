"""Runs the failover bench, or shows what is in its file: ``python -m tests.benchmarks.failover --help``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ha_tasks.model.load import outage_s, stale
from tests.benchmarks.failover.faults import AFTER_WAKING_S, FAULTS, Fault, heal, inject
from tests.benchmarks.failover.figures import Trial, bars, longest_gap_s, lost_of, table, trial_of
from tests.benchmarks.failover.load import TrialLoad
from tests.benchmarks.failover.ours import on_debian, on_wheel
from tests.benchmarks.failover.patroni import PatroniSystem
from tests.benchmarks.failover.systems import System
from tests.benchmarks.machine import machine

WARM_S = 2.0
NEVER_S = 60.0
"""What has not come back by then never does."""
STEADY_S = 3.0
"""It is back when writes went on for so long."""
LEAST_S = 5.0
"""A dying server still acknowledges for a moment: that is no sign that it is back."""
WHOLE_S = 240.0
"""Some wait for a whole lease before they begin to bring a node back."""


def patroni(*, tuned: bool, synchronous: bool) -> Callable[[str, bool], System]:
    """As the option names it: its nodes on loopback, or apart."""
    return lambda name, apart: PatroniSystem(name, tuned=tuned, synchronous=synchronous, apart=apart)


SYSTEMS: dict[str, Callable[[str, bool], System]] = {
    "ours": on_debian,
    "ours-18": on_wheel,
    "patroni-default-async": patroni(tuned=False, synchronous=False),
    "patroni-default-sync": patroni(tuned=False, synchronous=True),
    "patroni-tuned-async": patroni(tuned=True, synchronous=False),
    "patroni-tuned-sync": patroni(tuned=True, synchronous=True),
}
"""Name -> how it is made; ``apart``: each node on a host of its own."""


class NotWhole(Exception):
    """The system did not become whole: this trial is void, and is made again the next time."""


def main(arguments: Sequence[str]) -> int:
    """Exit status 0: every trial that was asked for is in the file; 1: some are void."""
    asked = _parsed(arguments)
    out: Path = asked.out
    if asked.show:
        show(read(out))
        return 0
    void = 0
    # An exception instead of sudden death, so that everything that was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for number in range(1, asked.rounds + 1):
        for name in asked.systems:
            void += play(name, [FAULTS[f] for f in asked.faults], number, out)
    show(read(out))
    return 1 if void else 0


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.failover",
        description="Breaks primaries of several systems in turns, and counts what clients see.",
        epilog="Faults: " + "; ".join(f"{f.name}: {f.text}" for f in FAULTS.values()) + ".",
    )
    parser.add_argument("--rounds", type=int, default=5, help="trials of each fault on each system (5)")
    listed(parser, "--systems", SYSTEMS, [*SYSTEMS])
    listed(parser, "--faults", FAULTS, [f for f in FAULTS if f != "dark"])
    parser.add_argument(
        "--out", type=Path, default=Path("failover.jsonl"), help="results, one a line; what is in it is done"
    )
    parser.add_argument("--show", action="store_true", help="only show what is in the file")
    return parser.parse_args(arguments)


def listed(
    parser: argparse.ArgumentParser, option: str, known: Sequence[str] | dict[str, object], usual: list[str]
) -> None:
    """An option that takes some of the known words, with commas between."""

    def words(text: str) -> list[str]:
        wrong = [word for word in text.split(",") if word not in known]
        if wrong:
            raise argparse.ArgumentTypeError(f"{', '.join(wrong)}: not among {', '.join(known)}")
        return text.split(",")

    parser.add_argument(option, type=words, default=usual, help=f"some of {','.join(known)}")


def read(out: Path) -> list[Trial]:
    """What is in the file; a last line that was cut off by a kill is left out."""
    if not out.exists():
        return []
    trials = []
    for line in out.read_text().splitlines():
        with suppress(ValueError):
            trials.append(trial_of(line))
    return trials


def show(trials: Sequence[Trial]) -> None:
    """The table, the bars, the machine."""
    print(table(trials), bars(trials), machine(), sep="\n\n")


def play(name: str, faults: Sequence[Fault], number: int, out: Path) -> int:
    """One system's trials of one round, those that are not in the file yet. How many are void."""
    done = {trial.key for trial in read(out)}
    missing = [fault for fault in faults if (name, fault.name, number) not in done]
    together = [fault for fault in missing if fault.number]
    apart = [fault for fault in missing if not fault.number]
    void = _played(SYSTEMS[name](name, False), together, number, out) if together else 0
    return void + (_played(SYSTEMS[name](name, True), apart, number, out) if apart else 0)


def _played(system: System, faults: Sequence[Fault], number: int, out: Path) -> int:
    void = 0
    try:
        system.start()
        for fault in faults:
            try:
                trial = tried(system, fault, number)
            except NotWhole as why:
                void += 1
                print(f"{system.name} {fault.name} {number}: void: {why}", flush=True)
                system.stop()
                system.start()
                continue
            with out.open("a") as file:
                file.write(trial.to_line() + "\n")
            print(trial.to_line(), flush=True)
    finally:
        system.stop()
    return void


def tried(system: System, fault: Fault, number: int) -> Trial:
    """One fault, from a whole system to a whole system."""
    primary = await_whole(system)
    began = datetime.now(UTC)
    load = TrialLoad(system.entry, system.nodes, system.login)
    load.start()
    time.sleep(WARM_S)
    try:
        fault_at = inject(fault, system, primary)
        try:
            watch(system, fault, load, fault_at, primary)
        finally:
            heal(fault, system, primary)
    finally:
        until = datetime.now(UTC)
        seen = load.stop()
    successor = await_whole(system)
    present = load.present()
    load.drop()
    return Trial(
        system=system.name,
        fault=fault.name,
        round=number,
        outage_s=outage_s(seen.through, fault_at, until),
        new_session_s=longest_gap_s(seen.anew, fault_at, until),
        acked=len(seen.through) + len(seen.anew),
        failed=seen.failed,
        lost=lost_of((*seen.through, *seen.anew), present),
        lost_direct=lost_of(seen.direct, present),
        stale=stale((*seen.through, *seen.anew, *seen.direct)),
        primary=primary,
        successor=successor,
        began_at=began.isoformat(timespec="seconds"),
        load_average=round(os.getloadavg()[0], 2),
        version=system.version,
    )


def await_whole(system: System) -> str:
    """The primary; NotWhole when it takes too long."""
    ends = time.monotonic() + WHOLE_S
    while (primary := system.whole()) is None:
        if time.monotonic() > ends:
            raise NotWhole(f"not whole within {WHOLE_S:.0f} s")
        time.sleep(0.25)
    # What has only just become whole may be about to change once more.
    time.sleep(1.0)
    return primary


def watch(system: System, fault: Fault, load: TrialLoad, fault_at: datetime, primary: str) -> None:
    """Until writes go on again, or for NEVER_S; what was frozen is woken, and watched for a while."""
    if fault.wakes:
        _until(fault_at + timedelta(seconds=system.wake_after_s))
        heal(fault, system, primary)
        _until(datetime.now(UTC) + timedelta(seconds=AFTER_WAKING_S))
    else:
        _until(fault_at + timedelta(seconds=LEAST_S))
    ends = fault_at + timedelta(seconds=max(NEVER_S, system.wake_after_s + AFTER_WAKING_S))
    steady_since: datetime | None = None
    while datetime.now(UTC) < ends:
        before = load.acknowledged()
        time.sleep(0.5)
        now = datetime.now(UTC)
        if load.acknowledged() == before:
            steady_since = None
        elif steady_since is None:
            steady_since = now
        elif (now - steady_since).total_seconds() >= STEADY_S:
            return


def _until(moment: datetime) -> None:
    time.sleep(max(0.0, (moment - datetime.now(UTC)).total_seconds()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
