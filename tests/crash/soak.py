"""A soak: recoveries at a steady rate while every few seconds something is killed or paused.

``python -m tests.crash.soak --minutes 20 [--store postgres] [--seed N]``, or ``make soak``. It says every
minute how it goes and at the end what came of every run, by the evidence of the resources. Exit status 1
when a run was lost or ended wrongly.
"""

from __future__ import annotations

import argparse
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from ha_tasks.errors import StoreUnreachable
from tests.crash.cases import BACKWARD, FORWARD
from tests.crash.evidence import wrong_end
from tests.crash.rig import BEATS, IDLE, WORKERS, Rig, eventually

EVERY_S = 1.0
"""A run is ordered, where no run is under way."""
STRIKE_S = (2.0, 5.0)
"""From one blow to the next."""
DOWN_S = 0.7
"""How long what was killed stays so."""
PAUSED_S = 3.0
END_WITHIN_S = 60.0


@dataclass
class Soak:
    """One soak on one rig."""

    rig: Rig
    lot: random.Random
    runs: dict[int, str] = field(default_factory=dict)
    blows: Counter[str] = field(default_factory=Counter)
    put_off: int = 0
    sizes: list[tuple[int, int]] = field(default_factory=list)
    """(resident bytes, open files) of all processes together, once a second."""

    def go_on(self, seconds: float) -> None:
        began = time.monotonic()
        ends, order_at, strike_at, tell_at = began + seconds, began, began + 3.0, began + 60.0
        while (now := time.monotonic()) < ends:
            if now >= order_at:
                order_at = now + EVERY_S
                self._order()
                self._measure()
            if now >= strike_at:
                self._strike()
                strike_at = time.monotonic() + self.lot.uniform(*STRIKE_S)
            if now >= tell_at:
                tell_at += 60.0
                print(f"{(now - began) / 60:.0f} min: {self.told()}", flush=True)
            time.sleep(0.05)
        self.rig.heal()
        eventually(lambda: not self.rig.system.store.journal.active(), END_WITHIN_S, "every run ends")

    def _order(self) -> None:
        """Not while a paused process holds the one write lock that SQLite has; that is counted."""
        try:
            self._order_one()
        except StoreUnreachable:
            self.put_off += 1

    def _order_one(self) -> None:
        busy = {run.plan.service for run in self.rig.system.store.journal.active()}
        free = [name for name in ("web", *IDLE) if name not in busy]
        if free:
            service = self.lot.choice(free)
            playbook = FORWARD if service == "web" else BACKWARD
            self.runs[self.rig.order(playbook, service).id] = playbook

    def _strike(self) -> None:
        kinds: dict[str, Callable[[], None]] = {
            "child": self._kill_child,
            "worker": lambda: self._kill(self.lot.choice(WORKERS)),
            "beat": lambda: self._kill(self.rig.acting_beat()),
            "sidecar": lambda: self._kill("sidecar"),
            "agent": lambda: self._restart("agent"),
            "broker": lambda: self._restart("broker"),
            "worker paused": lambda: self._pause(self.lot.choice(WORKERS)),
            "beat paused": lambda: self._pause(self.lot.choice(BEATS)),
        }
        kind = self.lot.choice(list(kinds))
        self.blows[kind] += 1
        kinds[kind]()

    def _kill_child(self) -> None:
        children = [c for w in WORKERS for c in psutil.Process(self.rig.pids[w]).children()]
        self.lot.choice(children).kill()

    def _kill(self, name: str) -> None:
        self.rig.signal(name, signal.SIGKILL)
        self._wait(DOWN_S)

    def _restart(self, name: str) -> None:
        self.rig.kill_server(name)
        self._wait(DOWN_S)

    def _pause(self, name: str) -> None:
        self.rig.signal(name, signal.SIGSTOP)
        self._wait(PAUSED_S)

    def _wait(self, seconds: float) -> None:
        """Orders go on meanwhile; then what was stopped is started or woken."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            self._order()
            time.sleep(min(EVERY_S, max(0.0, ends - time.monotonic())))
        self.rig.start_what_is_dead()

    def _measure(self) -> None:
        size = files = 0
        for pid in self.rig.pids.values():
            try:
                for process in (family := psutil.Process(pid)), *family.children(recursive=True):
                    size += process.memory_info().rss
                    files += process.num_fds()
            except psutil.NoSuchProcess:
                continue
        self.sizes.append((size, files))

    def told(self) -> str:
        blows = ", ".join(f"{kind} {count}" for kind, count in sorted(self.blows.items()))
        size, files = self.sizes[-1]
        return (
            f"{len(self.runs)} runs ordered, {self.put_off} put off; {self.blows.total()} blows ({blows}); "
            f"{size / 2**20:.0f} MiB, {files} files"
        )

    def wrong(self) -> list[str]:
        """What ended wrongly, or not at all."""
        found = [wrong_end(self.rig, run, playbook) for run, playbook in self.runs.items()]
        return [text for text in found if text]

    def flat(self) -> str:
        """The median of the first fifth beside that of the last."""
        fifth = max(1, len(self.sizes) // 5)
        parts = []
        for name, which, unit in (("resident", 0, 2**20), ("files", 1, 1)):
            first = statistics.median(s[which] for s in self.sizes[:fifth]) / unit
            last = statistics.median(s[which] for s in self.sizes[-fifth:]) / unit
            parts.append(f"{name} {first:.0f} -> {last:.0f}")
        return ", ".join(parts)


def main() -> int:
    """See the module's first lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ha-soak-") as directory:
        home = Path(directory)
        home.chmod(0o755)
        rig = Rig(home, asked.store)
        rig.start()
        try:
            soak = Soak(rig, random.Random(asked.seed))
            soak.go_on(asked.minutes * 60)
            wrong = soak.wrong()
        finally:
            rig.stop()
    print(soak.told())
    print(f"{len(soak.runs)} runs ordered, {len(soak.runs) - len(wrong)} ended right; {soak.flat()}")
    for text in wrong:
        print(text)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
