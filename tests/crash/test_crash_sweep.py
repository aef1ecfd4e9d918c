"""Whatever dies at whatever boundary: the run ends right, within the promise, each effect once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from ha_tasks.model.run import Run
from tests.crash.cases import EXECUTORS, FORWARD, Case, Victim, cases, sample
from tests.crash.evidence import told, wrong_end
from tests.crash.rig import BEATS, LEASE_S, WORKERS, Rig, alive, eventually

PROMISE_S = LEASE_S + 5.0
"""From the death of the executor (or the return of the server) to the end of the run."""
PAUSE_S = LEASE_S + 1.5
AWAY_S = 0.5
CONVERGES_S = 2.0
REFUSED = "a late write was refused"
WRITES_LATE = ("claimed", "captured", "applied", "done")
"""Where an executor that is paused still has something to write down."""
DIES: Mapping[Victim, frozenset[str]] = {victim: frozenset() for victim in Victim} | {
    Victim.WORKER: frozenset(WORKERS),
    Victim.BEAT: frozenset(BEATS),
    Victim.SIDECAR: frozenset({"sidecar"}),
}
TRIED = frozenset(case.name for case in sample(20))


@pytest.fixture(scope="module")
def rigs() -> Iterator[dict[str, Rig]]:
    running: dict[str, Rig] = {}
    yield running
    for rig in running.values():
        rig.stop()


@pytest.fixture
def rig(
    request: pytest.FixtureRequest, rigs: dict[str, Rig], tmp_path_factory: pytest.TempPathFactory
) -> Rig:
    """That of the case's store, everything alive; another store's is ended first, and one that failed."""
    kind = request.node.callspec.params["case"].store
    for name, old in list(rigs.items()):
        if name != kind or not old.whole:
            rigs.pop(name).stop()
    if kind not in rigs:
        rigs[kind] = Rig(tmp_path_factory.mktemp(kind), kind)
        rigs[kind].start()
    rigs[kind].heal()
    rigs[kind].whole = False
    return rigs[kind]


def marked() -> list[object]:
    return [
        pytest.param(case, id=case.name, marks=() if case.name in TRIED else pytest.mark.full)
        for case in cases()
    ]


@pytest.mark.parametrize("case", marked())
def test_whatever_dies_the_run_ends_right_and_once(rig: Rig, case: Case) -> None:
    trial = Trial(rig, case)
    run = rig.order(case.playbook)

    since = trial.strike()
    eventually(lambda: rig.ended(run.id), since + PROMISE_S - time.time(), lambda: told(rig, run.id))

    ended_right(rig, run, case)
    trial.wake()
    ended_right(rig, run, case)
    rig.whole = True
    assert rig.dead() <= DIES[case.victim], "what was not stopped has died too"


class Trial:
    """One armed boundary, and what happens when the run comes to it."""

    def __init__(self, rig: Rig, case: Case) -> None:
        self._rig, self._case = rig, case
        self._point = rig.points / ".".join(case.boundary)
        self._refused_before = self._refusals()
        words = {Victim.CHILD: "child", Victim.WORKER: ""}
        for old in rig.points.glob(f"{self._point.name}*"):
            old.unlink()
        self._point.write_text(words.get(case.victim, "wait"))

    def strike(self) -> float:
        """Returns when the executor is dead or paused, or the server is back: the moment it was."""
        eventually(self._fired, 15, f"the run comes to {self._point.name}")
        strikes = {
            Victim.AGENT: self._kill_agent,
            Victim.AGENT_PAUSED: self._pause_agent,
            Victim.CHILD_PAUSED: self._pause_child,
            Victim.WORKER_PAUSED: self._pause_worker,
            Victim.BEAT: self._kill_beat,
            Victim.SIDECAR: self._kill_sidecar,
            Victim.BROKER: self._kill_broker,
            Victim.BROKER_DATA: self._kill_broker_and_data,
        }
        strike = strikes.get(self._case.victim)
        if strike is not None:
            strike()
            return time.time()
        fired = self._fired()[0]
        if self._case.victim in EXECUTORS:
            eventually(lambda: not alive(self._executor()), 5, "the executor dies")
        if self._case.victim is Victim.WORKER:
            eventually(lambda: self._rig.dead() & {*WORKERS}, 5, "the worker dies")
        return fired.stat().st_ctime

    def wake(self) -> None:
        """A paused executor goes on where it stood. What it still writes is refused, and said to be so."""
        if self._case.victim not in {Victim.CHILD_PAUSED, Victim.WORKER_PAUSED}:
            return
        for name in WORKERS:
            self._rig.signal(name, signal.SIGCONT)
        self._go()
        if self._case.boundary[2] in WRITES_LATE:
            eventually(lambda: self._refusals() > self._refused_before, 10, "the late write is refused")

    def _fired(self) -> list[Path]:
        return list(self._rig.points.glob(f"{self._point.name}.fired-*"))

    def _go(self) -> None:
        self._point.with_name(f"{self._point.name}.go").touch()

    def _pause_child(self) -> None:
        with self._rig.nobody_writes():
            os.kill(self._executor(), signal.SIGSTOP)

    def _pause_worker(self) -> None:
        with self._rig.nobody_writes():
            self._rig.signal(self._rig.worker_of(self._executor()), signal.SIGSTOP)

    def _executor(self) -> int:
        return int(self._fired()[0].name.rpartition("-")[2])

    def _kill_agent(self) -> None:
        self._rig.kill_server("agent")
        self._go()
        time.sleep(AWAY_S)
        self._rig.start_server("agent")

    def _pause_agent(self) -> None:
        self._rig.signal("agent", signal.SIGSTOP)
        self._go()
        time.sleep(PAUSE_S)
        self._rig.signal("agent", signal.SIGCONT)

    def _kill_beat(self) -> None:
        self._rig.signal(self._rig.acting_beat(), signal.SIGKILL)
        self._go()

    def _kill_sidecar(self) -> None:
        self._rig.signal("sidecar", signal.SIGKILL)
        self._go()

    def _kill_broker(self) -> None:
        self._rig.kill_server("broker")
        self._go()
        time.sleep(AWAY_S)
        self._rig.start_server("broker")

    def _kill_broker_and_data(self) -> None:
        self._rig.kill_server("broker")
        self._rig.empty_broker()
        self._go()
        time.sleep(AWAY_S)
        self._rig.start_server("broker")

    def _refusals(self) -> int:
        return sum((self._rig.home / f"{name}.log").read_text().count(REFUSED) for name in WORKERS)


def ended_right(rig: Rig, run: Run, case: Case) -> None:
    assert not (wrong := wrong_end(rig, run.id, case.playbook)), wrong
    if case.playbook == FORWARD:
        eventually(
            lambda: rig.rotation() == {"web1": True, "web2": True, "web3": False},
            CONVERGES_S,
            lambda: f"the balancer serves from web1 and web2, not: {rig.rotation()}",
        )
