"""No false failover: the platform is disturbed for a while, and its primary must stay what it is.

``python -m tests.calm --minutes 30 [--seed N]``, or ``make calm``. The state is in a PostgreSQL of its own,
so that the store can be restarted. Exit status 1 when a failover was begun, or an acknowledged row is lost.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

from ha_tasks.adapters.clock import SystemClock
from ha_tasks.adapters.postgres_session import Login
from ha_tasks.adapters.write_load import WriteLoad
from ha_tasks.bootstrap import System, assemble, load_inventory
from ha_tasks.embedded.home import home_at
from ha_tasks.embedded.inventory import APP_ROLE, CLUSTER, DATABASE
from ha_tasks.embedded.secret_files import read
from ha_tasks.model.load import LoadReport
from ha_tasks.model.run import Run
from tests.acceptance.stack import Stack
from tests.calm.disturbances import DISTURBANCES, can_lose_packets, packets_lost
from tests.servers import PostgresServer

REST_S = 5.0
"""Between two disturbances."""
FAILOVER = "postgres-failover"


class Watch:
    """What must not happen, read from the store."""

    def __init__(self, home: Path, store_url: str) -> None:
        environ = {"HA_TASKS_HOME": str(home), "HA_TASKS__STORE__URL": store_url}
        self._system: System = assemble(load_inventory(home, environ), environ=environ)
        self._first = self._cluster()

    def _cluster(self) -> tuple[int, str]:
        cluster = self._system.store.clusters.get(CLUSTER)
        return cluster.epoch, cluster.primary

    def failovers(self) -> int:
        """Runs of the failover, whatever came of them; also those that wait for a person."""
        return sum(run.plan.playbook == FAILOVER for run in self._runs())

    def others(self) -> Counter[str]:
        """What else was done, by playbook: told, not judged."""
        return Counter(run.plan.playbook for run in self._runs() if run.plan.playbook != FAILOVER)

    def same_primary(self) -> bool:
        """True while nobody else leads."""
        return self._cluster()[1] == self._first[1]

    def _runs(self) -> tuple[Run, ...]:
        return self._system.store.journal.recent(1000)


def disturb(stack: Stack, server: PostgresServer, watch: Watch, *, minutes: float, seed: int) -> Counter[str]:
    """Every kind as often as another, in an order by lot. Answers how often each was; tells as it goes."""
    lot, done = random.Random(seed), Counter[str]()
    kinds = [k for k, d in DISTURBANCES.items() if d is not packets_lost or can_lose_packets()]
    ends = time.monotonic() + minutes * 60
    while time.monotonic() < ends:
        for kind in lot.sample(kinds, len(kinds)):
            DISTURBANCES[kind](stack, server)
            done[kind] += 1
            time.sleep(REST_S)
            print(f"{kind}: {watch.failovers()} failovers so far", flush=True)
            if time.monotonic() > ends:
                break
    return done


def lost(report: LoadReport) -> int | None:
    """How many acknowledged rows are not there any more; None: it could not be read."""
    if report.present is None:
        return None
    return sum((ack.writer, ack.seq) not in report.present for ack in report.acks)


def told(done: Counter[str], watch: Watch, report: LoadReport) -> list[str]:
    """The figures, a line each."""
    moments = sorted(a.acked_at for a in report.acks)
    gap = max((b - a).total_seconds() for a, b in pairwise(moments))
    acked, failed = len(report.acks), len(report.misses)
    return [
        "disturbances: " + ", ".join(f"{kind} {count}" for kind, count in sorted(done.items())),
        f"failovers: {watch.failovers()}; the primary is {'the same' if watch.same_primary() else 'ANOTHER'}",
        "other runs: " + (", ".join(f"{k} {n}" for k, n in watch.others().items()) or "none"),
        f"writes: {acked} acknowledged, {lost(report)} lost, {failed} failed, longest gap {gap:.2f} s",
    ]


def main() -> int:
    """See the module's first lines."""
    parser = argparse.ArgumentParser(prog="tests.calm", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    if not can_lose_packets():
        print("no packets are lost: that needs root and iptables")
    with tempfile.TemporaryDirectory(prefix="ha-calm-") as directory:
        Path(directory).chmod(0o755)
        server = PostgresServer(Path(directory))
        server.initialise()
        server.start()
        try:
            return trial(Path(directory) / "home", server, asked.minutes, asked.seed)
        finally:
            server.stop()


def trial(home: Path, server: PostgresServer, minutes: float, seed: int) -> int:
    """One platform from its start to its end."""
    url = server.create_database("ha")
    stack = Stack(home, {"HA_TASKS__STORE__URL": url})
    stack.start()
    try:
        watch = Watch(home, url)
        login = Login(user=APP_ROLE, database=DATABASE, password=read(home_at(home).secret("pg-app")))
        entry = load_inventory(home, {}).platform.services[CLUSTER].routing
        assert entry is not None
        load = WriteLoad(entry=entry.entry, login=login, clock=SystemClock(), writers=4, pause_s=0.05)
        load.start()
        try:
            done = disturb(stack, server, watch, minutes=minutes, seed=seed)
        finally:
            report = load.stop()
        print("\n".join(told(done, watch, report)))
        return 1 if watch.failovers() or not watch.same_primary() or lost(report) != 0 else 0
    finally:
        stack.stop()


if __name__ == "__main__":
    sys.exit(main())
