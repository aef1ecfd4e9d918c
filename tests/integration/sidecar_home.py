"""A home with the demo's inventory and a store as it is after half an hour, for the sidecar's tests."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from beat_schedule import SCHEDULE
from ha_tasks.embedded.inventory import render
from ha_tasks.embedded.ports import DEFAULTS
from ha_tasks.model.cluster import Cluster, ClusterState, SyncSet
from ha_tasks.model.leadership import BEAT
from ha_tasks.model.probe import OutcomeKind, ProbeOutcome, Target
from ha_tasks.model.schedule import Move
from ha_tasks.names import Counter, Histogram
from ha_tasks.ports.ledger import Worker
from ha_tasks.store import Store
from tests.servers import free_port
from tests.valkey_server import PASSWORD
from workers.beat import entries_of

LIVED_S = 1800
INSTANCES = (
    *(("db", f"pg{n}", "postgres") for n in (1, 2, 3)),
    *(("web", f"web{n}", "http") for n in (1, 2, 3)),
    ("cache", "cache1", "redis"),
)


def make_home(home: Path, broker_port: int) -> Store:
    """Writes the inventory and its secrets; answers the empty store."""
    numbers = count(20_000)
    ports = {name: next(numbers) for name in DEFAULTS} | {"broker": broker_port, "metrics": free_port()}
    (home / "ha-tasks.toml").write_text(render(ports, "tcp://127.0.0.1:1"))
    (home / "secrets").mkdir()
    for name in ("broker", "agent-key", "pg-control"):
        secret = home / "secrets" / name
        secret.write_text(PASSWORD)
        secret.chmod(0o600)
    store = Store(f"sqlite:///{home / 'ha.db'}")
    store.migrate()
    return store


def live_half_an_hour(store: Store) -> None:
    """What half an hour of the demo leaves: each instance looked at twice a second from two vantages."""
    now = datetime.now(UTC)
    for begin in range(0, 2 * LIVED_S, 1200):
        moments = [now - timedelta(seconds=n / 2) for n in range(begin, begin + 1200)]
        store.observations.record([look for moment in moments for look in _looks(moment, now)])
    for service in ("db", "web", "cache"):
        store.ledger.service_state(service, "available", 1.0, now - timedelta(seconds=LIVED_S))
        store.ledger.service_state(service, "unavailable", 0.0, now - timedelta(seconds=LIVED_S / 2))
        store.ledger.service_state(service, "available", 1.0, now - timedelta(seconds=LIVED_S / 2 - 36))
    look_once(store)
    sets = (SyncSet(quorum=1, members=("pg2", "pg3")),)
    store.clusters.register(
        Cluster(name="db", epoch=1, primary="pg1", state=ClusterState.STEADY, sets=sets), now
    )
    store.ledger.count(Counter.RECOVERIES, {"recovery_type": "failover"})
    store.ledger.observe(Histogram.RECOVERY_TIME, {"recovery_type": "failover"}, 1.7)
    store.ledger.observe(
        Histogram.STEP_DURATION, {"recovery_type": "failover", "step": "promote_candidate"}, 0.3
    )
    store.ledger.integrity("replication", "db", True, now)
    for name, kind, queues in (
        ("h/probe-a", "observer", ("probes", "alerts")),
        ("h/recovery-1", "worker", ("recovery", "backups", "tuning")),
        ("h/beat-a", "beat", ()),
    ):
        store.ledger.heartbeat(Worker(name=name, kind=kind, queues=queues, pid=1, heartbeat_at=now))
    _beat_once(store, now)
    store.schedule.succeeded("sweep", now)


def _beat_once(store: Store, now: datetime) -> None:
    leading = store.leadership.take(BEAT, None, "h/beat-a", now)
    assert leading is not None
    sweep = next(entry for entry in entries_of(SCHEDULE) if entry.name == "sweep")
    move = Move(entry=sweep, before=None, due_at=now, send=True)
    store.ticks.claim(BEAT, leading.fence, [move], now, now)


def look_once(store: Store) -> None:
    """Everything is looked at now, and well."""
    now = datetime.now(UTC)
    store.observations.record(_looks(now, now))
    for service in ("db", "web", "cache"):
        store.ledger.service_state(service, "available", 1.0, now)


def _looks(moment: datetime, now: datetime) -> list[ProbeOutcome]:
    lsn = 10**9 - int((now - moment).total_seconds() * 1000)
    return [
        ProbeOutcome(
            target=Target(service=service, instance=instance),
            vantage=vantage,
            sent_at=moment,
            known_at=moment + timedelta(milliseconds=3),
            kind=OutcomeKind.OK,
            rtt_s=0.003,
            facts=_facts(instance, lsn) if service == "db" else {},
            probe=probe,
        )
        for vantage in ("h/probe-a", "h/probe-b")
        for service, instance, probe in INSTANCES
    ]


def _facts(instance: str, lsn: int) -> dict[str, Any]:
    standby = instance != "pg1"
    return {"in_recovery": standby, "receiving": standby, "timeline": 1, "lsn": lsn, "agent": None}


@dataclass
class Sidecar:
    """The sidecar as a process of its own."""

    home: Path
    listen: str = ""
    process: subprocess.Popen[bytes] | None = None
    url: str = ""
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.home / "sidecar.log"
        self.listen = self.listen or f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.listen}"

    def launch(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "workers.metrics_sidecar", "--home", str(self.home)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--listen", self.listen],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={k: v for k, v in os.environ.items() if not k.startswith("HA_TASKS")},
            )
        return self.process

    def start(self, within_s: float = 40.0) -> None:
        process, deadline = self.launch(), time.monotonic() + within_s
        while not self.answers():
            assert process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def answers(self) -> bool:
        try:
            self.get("/healthz")
        except OSError:
            return False
        return True

    def get(self, path: str, **headers: str) -> tuple[str, str]:
        """(body, content type)."""
        request = urllib.request.Request(self.url + path, headers=headers)  # noqa: S310 - always http
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - as above
            return answer.read().decode(), answer.headers["Content-Type"]

    def scrape(self) -> Mapping[str, float]:
        """Series as text -> value."""
        body, _ = self.get("/metrics")
        lines = [line for line in body.splitlines() if not line.startswith("#")]
        return {series: float(value) for series, value in (line.rsplit(" ", 1) for line in lines)}

    def down(self) -> set[str]:
        return set(json.loads(self.get("/healthz")[0])["down"])

    def stop(self, signal: int) -> int:
        assert self.process is not None
        self.process.send_signal(signal)
        return self.process.wait(10)


def counters(scrape: Mapping[str, float]) -> dict[str, float]:
    """Those that only grow, without the time that passes meanwhile."""
    return {
        series: value
        for series, value in scrape.items()
        if re.search(r"_(total|bucket|count|sum)(\{|$)", series) and "ha_service_seconds" not in series
    }
