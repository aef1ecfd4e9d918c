"""Two beats as processes, on a real broker and a SQLite store: killed, paused, woken, cut off."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from ha_tasks.model.leadership import BEAT, NOBODY
from ha_tasks.names import Counter
from ha_tasks.store import Store
from tests.integration.embedded_home import wait_until
from tests.integration.sidecar_home import make_home
from tests.valkey_server import ValkeyServer, valkey_server

ROOT = Path(__file__).parents[2]
TAKE_OVER_S = 5.0
BACKUP_EVERY_S = 4.0
"""As beat_app.py has it, which only a process with a home can import."""
STARTED_WITHIN_S = 40.0
NAMES = ("beat-a", "beat-b")


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A message as it stands in the broker."""

    entry: str
    due_at: datetime
    fence: int
    sent_at: float
    expires_at: float


@dataclass
class Beats:
    """Processes on one home, one broker and one store."""

    home: Path
    broker: ValkeyServer
    store: Store
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, *names: str) -> None:
        """Returns once each has reported itself and one of them acts."""
        for name in names:
            command = [sys.executable, "-m", "celery", "-A", "tests.integration.beat_app", "beat"]
            environ = {k: v for k, v in os.environ.items() if not k.startswith("HA_TASKS")}
            with (self.home / f"{name}.log").open("ab") as log:
                self.running[name] = subprocess.Popen(
                    [*command, "--loglevel=WARNING", "--pidfile="],
                    cwd=ROOT,
                    env=environ
                    | {
                        "HA_TASKS_HOME": str(self.home),
                        "HA_TASKS_PROCESS": name,
                        "HA_TASKS__BROKER__URL": self.broker.url,
                    },
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
        pids = {process.pid for process in self.running.values()}
        assert wait_until(lambda: pids <= self._reported(), STARTED_WITHIN_S), self.logs()
        assert wait_until(lambda: self.acting in self.running, TAKE_OVER_S), self.logs()

    def _reported(self) -> set[int]:
        return {w.pid for w in self.store.ledger.workers(datetime.fromtimestamp(0).astimezone())}

    @property
    def acting(self) -> str:
        lease = self.store.leadership.look(BEAT)
        return NOBODY if lease is None else lease.holder.rpartition("/")[2]

    @property
    def fence(self) -> int:
        lease = self.store.leadership.look(BEAT)
        return 0 if lease is None else lease.fence

    def other(self) -> str:
        return next(name for name in self.running if name != self.acting)

    def signal(self, name: str, number: signal.Signals) -> None:
        self.running[name].send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self.running.pop(name).wait(10)

    def sent(self) -> list[Sent]:
        """By entry, oldest tick first."""
        with closing(self.broker.client()) as client:
            found = [
                json.loads(m)["headers"] for q in ("recovery", "backups") for m in client.lrange(q, 0, -1)
            ]
        messages = (
            Sent(
                entry=h["entry"],
                due_at=datetime.fromisoformat(h["due_at"]),
                fence=h["fence"],
                sent_at=h["sent_at"],
                expires_at=datetime.fromisoformat(h["expires"]).timestamp(),
            )
            for h in found
        )
        return sorted(messages, key=lambda m: (m.entry, m.due_at, m.sent_at))

    def doubles(self) -> list[tuple[Sent, Sent]]:
        """Messages of one tick of which the second was sent while a worker would still take the first."""
        return [
            (first, second)
            for first, second in pairwise(self.sent())
            if (first.entry, first.due_at) == (second.entry, second.due_at)
            and second.sent_at <= first.expires_at
        ]

    def newest(self, entry: str) -> float:
        return max((m.sent_at for m in self.sent() if m.entry == entry), default=0.0)

    def missed(self, entry: str) -> dict[str, float]:
        """How many ticks, by handling."""
        return {
            s.labels["handling"]: s.value
            for s in self.store.ledger.series()
            if s.name == Counter.SCHEDULE_MISSED and s.labels["entry"] == entry
        }

    def forget(self) -> None:
        """Takes all messages out of the broker."""
        with closing(self.broker.client()) as client:
            client.delete("recovery", "backups")

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in self.home.glob("beat-*.log"))


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beats]:
    home = tmp_path_factory.mktemp("a home")
    with valkey_server(tmp_path_factory.mktemp("valkey")) as broker:
        made = Beats(home=home, broker=broker, store=make_home(home, broker.port))
        try:
            yield made
        finally:
            for process in made.running.values():
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait(10)
            made.store.dispose()


@pytest.fixture
def beats(processes: Beats) -> Beats:
    """Both of them run, one acts, and no message of an earlier test is left."""
    processes.start(*(name for name in NAMES if name not in processes.running))
    processes.forget()
    assert wait_until(lambda: processes.newest("sweep") > 0, TAKE_OVER_S), processes.logs()
    return processes


def test_a_killed_beat_is_followed_in_under_five_seconds(beats: Beats):
    first, fence, killed_at = beats.acting, beats.fence, time.time()
    beats.signal(first, signal.SIGKILL)

    assert wait_until(lambda: any(m.fence > fence for m in beats.sent()), TAKE_OVER_S), beats.logs()
    took_s = min(m.sent_at for m in beats.sent() if m.fence > fence) - killed_at
    assert took_s < TAKE_OVER_S
    assert beats.acting != first
    assert beats.doubles() == []


def test_a_beat_that_was_paused_past_its_lease_wakes_up_and_sends_nothing_a_second_time(beats: Beats):
    paused, fence, stopped_at = beats.acting, beats.fence, time.time()
    with closing(sqlite3.connect(beats.home / "ha.db", isolation_level=None)) as store:
        # A process that is paused while it has SQLite's one write lock holds everybody up: not this trial.
        store.execute("BEGIN IMMEDIATE")
        beats.signal(paused, signal.SIGSTOP)
        store.execute("ROLLBACK")
    assert wait_until(lambda: beats.newest("sweep") > stopped_at + 1, TAKE_OVER_S), beats.logs()
    assert wait_until(lambda: beats.newest("sweep") > stopped_at + 4, TAKE_OVER_S), beats.logs()
    beats.signal(paused, signal.SIGCONT)
    woken_at = time.time()
    assert wait_until(lambda: beats.newest("sweep") > woken_at + 2, TAKE_OVER_S), beats.logs()

    assert beats.acting != paused
    assert beats.doubles() == []
    assert {m.fence for m in beats.sent() if m.sent_at > woken_at} == {fence + 1}
    assert f"{paused} does not lead beat any more" in (beats.home / f"{paused}.log").read_text()
    # It may lead again: whoever acts is asked to end, and lets go of its lease.
    beats.signal(beats.acting, signal.SIGTERM)
    assert wait_until(lambda: beats.acting == paused, 1.5), beats.logs()


def test_what_all_of_them_missed_is_made_up_once_or_dropped_as_the_entry_says(beats: Beats):
    before = beats.missed("sweep")["dropped"], beats.missed("backup").get("made_up", 0)
    for name in NAMES:
        beats.signal(name, signal.SIGKILL)
    silent_at = time.time()
    beats.forget()
    assert wait_until(lambda: time.time() > silent_at + BACKUP_EVERY_S + 0.5, 10)
    beats.start(NAMES[0])
    assert wait_until(lambda: beats.newest("backup") > 0, 3), beats.logs()

    first = next(m for m in beats.sent() if m.entry == "backup")
    assert first.sent_at - first.due_at.timestamp() < BACKUP_EVERY_S
    assert beats.missed("backup")["made_up"] >= before[1] + 1
    assert beats.missed("sweep")["dropped"] >= before[0] + BACKUP_EVERY_S
    assert beats.doubles() == []


@pytest.mark.full
def test_while_the_store_is_locked_nothing_is_sent_and_then_it_goes_on_by_itself(beats: Beats):
    with closing(sqlite3.connect(beats.home / "ha.db", isolation_level=None)) as store:
        store.execute("BEGIN EXCLUSIVE")
        locked_at = time.time()
        assert wait_until(lambda: time.time() > locked_at + 6, 8)
        during = [m for m in beats.sent() if m.sent_at > locked_at + 0.5]
        store.execute("ROLLBACK")
    released_at = time.time()

    assert during == []
    assert wait_until(lambda: beats.newest("sweep") > released_at, TAKE_OVER_S), beats.logs()
    assert beats.doubles() == []
    assert all(process.poll() is None for process in beats.running.values())


@pytest.mark.full
@pytest.mark.parametrize("away", ["killed", "paused"])
def test_while_the_broker_is_away_the_leader_keeps_the_lead_and_loses_no_backup(beats: Beats, away: str):
    process = beats.broker.process
    assert process is not None
    leader, fence, began = beats.acting, beats.fence, time.time()
    if away == "killed":
        beats.broker.stop()
    else:
        process.send_signal(signal.SIGSTOP)
    assert wait_until(lambda: time.time() > began + BACKUP_EVERY_S + 2, 8)
    if away == "killed":
        beats.broker.start()
    else:
        process.send_signal(signal.SIGCONT)
    back_at = time.time()

    assert wait_until(lambda: beats.newest("backup") > back_at, 3), beats.logs()
    assert (beats.acting, beats.fence) == (leader, fence)
    assert wait_until(lambda: beats.newest("sweep") > back_at, 3), beats.logs()
    assert beats.missed("backup")["made_up"] >= 1
    assert beats.missed("sweep")["dropped"] >= 3
