"""The stand-by driver: it acts when the broker is away, not for a hiccup, and leaves off when it is back."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace

import pytest

from ha_tasks.adapters.clock import SystemClock
from ha_tasks.errors import BrokerUnreachable, StoreUnreachable
from ha_tasks.model.run import Phase, RunState
from ha_tasks.recovery.recovery_orchestrator import Advance
from ha_tasks.workflows.standby import StandbyDriver
from tests.fakes.clock import FakeClock


@dataclass(frozen=True)
class SomeRun:
    """What the driver reads of a run."""

    id: int
    state: RunState = RunState.RUNNING
    position: int = 1
    phase: Phase = Phase.DO


class Runs:
    """A journal of runs of ``steps`` steps, and the orchestrator that takes them further."""

    def __init__(self, *numbers: int, steps: int = 3) -> None:
        self.steps = steps
        self.runs = {number: SomeRun(number) for number in numbers}
        self.taken: list[tuple[int, int]] = []
        self.fails: Exception | None = None

    def active(self):
        return tuple(run for run in self.runs.values() if run.state is RunState.RUNNING)

    def get(self, number):
        return self.runs[number]

    def advance(self, number, step, phase):
        if self.fails is not None:
            raise self.fails
        self.taken.append((number, step))
        state = RunState.SUCCEEDED if step == self.steps else RunState.RUNNING
        self.runs[number] = replace(self.runs[number], position=step + 1, state=state, phase=phase)
        return Advance(taken=True)


class Broker:
    def __init__(self) -> None:
        self.away = False
        self.asked = 0

    def ask(self):
        self.asked += 1
        if self.away:
            raise BrokerUnreachable("the broker is away")


def driver(runs, broker, clock, follow=lambda: None):
    return StandbyDriver(journal=runs, ask=broker.ask, advance=runs.advance, follow=follow, clock=clock)


def await_(condition, within_s=5.0):
    ends = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.005)


@pytest.mark.parametrize(("away_s", "driven"), [(0.0, False), (0.9, False), (1.1, True)])
def test_it_drives_once_the_broker_was_away_for_longer_than_a_hiccup(away_s, driven) -> None:
    runs, broker, clock = Runs(1, 2), Broker(), FakeClock()
    standby = driver(runs, broker, clock)
    broker.away = True
    standby.look()
    clock.advance(away_s)

    standby.look()

    if driven:
        await_(lambda: not runs.active())
    assert sorted(runs.taken) == ([(n, s) for n in (1, 2) for s in (1, 2, 3)] if driven else [])


def test_a_broker_that_answers_in_between_was_only_a_hiccup() -> None:
    runs, broker, clock = Runs(1), Broker(), FakeClock()
    standby = driver(runs, broker, clock)
    for away in (True, False, True):
        broker.away = away
        standby.look()
        clock.advance(0.8)

    assert runs.taken == []


def test_it_leaves_off_between_two_steps_when_the_broker_is_back() -> None:
    runs, broker, clock = Runs(1, steps=10_000_000), Broker(), FakeClock()
    standby = driver(runs, broker, clock)
    broker.away = True
    standby.look()
    clock.advance(2)
    standby.look()
    await_(lambda: runs.taken)

    broker.away = False
    standby.look()

    await_(lambda: not [t for t in threading.enumerate() if t.name == "run-1"])
    assert runs.active()


def test_what_workers_hold_is_waited_for() -> None:
    runs, broker = Runs(1, steps=1), Broker()
    held = [True, True]

    class Held(Runs):
        def advance(self, number, step, phase):
            return Advance(taken=False) if held and held.pop() else runs.advance(number, step, phase)

    standby = StandbyDriver(
        journal=runs, ask=broker.ask, advance=Held().advance, follow=lambda: None, clock=SystemClock()
    )
    broker.away = True
    await_(lambda: standby.look() or not runs.active())

    assert runs.taken == [(1, 1)]


def test_trouble_with_the_store_is_tried_again_and_a_fault_is_raised() -> None:
    runs, broker, clock = Runs(1), Broker(), FakeClock()
    standby = driver(runs, broker, clock)
    broker.away = True
    standby.look()
    clock.advance(2)
    runs.fails = StoreUnreachable("away")
    standby.look()
    await_(lambda: not [t for t in threading.enumerate() if t.name == "run-1"])
    runs.fails = ZeroDivisionError()
    standby.look()

    def raised() -> bool:
        try:
            standby.look()
        except ZeroDivisionError:
            return True
        return False

    await_(raised)


def test_incidents_are_told_what_a_dead_executor_could_not_tell_them() -> None:
    followed, broker, clock = [], Broker(), FakeClock()
    standby = driver(Runs(), broker, clock, follow=lambda: followed.append(1))
    standby.look()
    broker.away = True
    standby.look()
    clock.advance(2)
    standby.look()

    assert followed == [1]


def test_a_run_that_waits_for_a_person_is_not_driven() -> None:
    runs, broker, clock = Runs(1), Broker(), FakeClock()
    runs.runs[1] = replace(runs.runs[1], state=RunState.AWAITING_APPROVAL)
    runs.active = lambda: tuple(runs.runs.values())
    standby = driver(runs, broker, clock)
    broker.away = True
    standby.look()
    clock.advance(2)
    standby.look()

    assert standby.driving
    assert standby._driven == {}
