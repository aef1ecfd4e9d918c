"""The observer's loops: none waits for another, and none is missed when it ends."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from ha_tasks.adapters.clock import SystemClock
from ha_tasks.errors import BalancerError, BalancerUnreachable
from ha_tasks.model.platform import Check
from ha_tasks.model.probe import OutcomeKind
from ha_tasks.model.second_look import moments_s
from ha_tasks.workflows.observation import Observer
from tests.fakes.clock import FakeClock
from tests.unit.builders import database, outcome, platform, web


class Looks:
    """Sees nothing, finds nothing."""

    def look(self, services):
        return ()

    def judge(self, services, horizon=None):
        return ()

    def react(self, verdicts):
        return None


class Keeps:
    """Has trouble with a balancer; the clusters, once looked after, end the observer."""

    def __init__(self, ended, trouble):
        self.ended, self.trouble = ended, trouble
        self.kept = False

    def balancers(self):
        raise self.trouble

    def clusters(self):
        self.kept = True
        self.ended.set()

    def heartbeats(self):
        pass


class Breaks(Keeps):
    def clusters(self):
        raise self.trouble


@pytest.fixture
def ended():
    event = threading.Event()
    at_last = threading.Timer(3, event.set)
    at_last.start()
    yield event
    at_last.cancel()
    event.set()


def observer(reconciler):
    return Observer(platform=platform(), detection=Looks(), reconciler=reconciler, clock=SystemClock())


@pytest.mark.parametrize("trouble", [BalancerUnreachable("away"), BalancerError("No such server.")])
def test_who_follows_whom_does_not_wait_for_a_balancer(ended, trouble):
    reconciler = Keeps(ended, trouble)

    observer(reconciler).run(ended)

    assert reconciler.kept


class Exits:
    """One node, whose end is told during each look of the observer."""

    nodes = ("pg1",)

    def __init__(self, told):
        self.told = told

    def look(self, node):
        gone = self.told.wait(2)
        self.told.clear()
        return gone


class Counts(Looks):
    """In the first two rounds the node ends; the third ends the observer."""

    def __init__(self, ended, told):
        self.ended, self.told = ended, told
        self.rounds = 0

    def look(self, services):
        self.rounds += 1
        (self.told if self.rounds < 3 else self.ended).set()
        return ()


def test_the_observer_does_not_wait_for_its_next_turn_when_an_end_is_told(ended):
    told = threading.Event()
    counts = Counts(ended, told)
    Observer(
        platform=platform(replace(database(), check=Check(interval_s=3600))),
        detection=counts,
        reconciler=Keeps(threading.Event(), BalancerUnreachable("away")),
        clock=SystemClock(),
        exits=Exits(told),
    ).run(ended)

    assert counts.rounds == 3


class Fails(Looks):
    """web fails in every look; the one after two turns ends the observer."""

    def __init__(self, ended):
        self.ended = ended
        self.looks = []

    def look(self, services):
        self.looks.append([s.name for s in services])
        if self.looks.count(["db", "web"]) == 2:
            self.ended.set()
        return [
            outcome("web1", 0, OutcomeKind.REFUSED, service="web"),
            outcome("pg1", 0, OutcomeKind.REFUSED),
        ]


def test_a_service_that_has_just_failed_is_looked_at_again_before_its_turn(ended):
    fails = Fails(ended)
    check = Check(interval_s=1.1)
    Observer(
        platform=platform(replace(database(), check=check), replace(web(), check=check)),
        detection=fails,
        reconciler=Keeps(threading.Event(), BalancerUnreachable("away")),
        clock=SystemClock(),
    ).run(ended)

    assert fails.looks == [["db", "web"], ["web"], ["db", "web"]]


@pytest.mark.parametrize(
    ("interval_s", "moments"),
    [(0.5, []), (0.9, []), (1.0, [0.5]), (2.0, [0.5, 1.0, 1.5]), (60.0, [0.5, 1.0, 1.5])],
)
def test_second_looks_are_few_and_delay_no_turn(interval_s, moments):
    assert moments_s(interval_s) == moments


def test_an_error_that_nobody_expected_in_one_loop_ends_the_observer(ended):
    """Its worker is started again then; half an observer would look alive for ever."""
    with pytest.raises(ZeroDivisionError):
        observer(Breaks(ended, ZeroDivisionError())).run(ended)


class Timed:
    """A detection whose looks and judgements take the time that they are told to."""

    def __init__(self, clock, *, look_s=0.0, judge_s=0.0, jump_s=0.0):
        self.clock, self.look_s, self.judge_s, self.jump_s = clock, look_s, judge_s, jump_s
        self.horizons, self.reacted = [], 0

    def look(self, services):
        self.clock.advance(self.look_s)
        self.clock.start += timedelta(seconds=self.jump_s)
        return ()

    def judge(self, services, horizon=None):
        self.horizons.append(horizon)
        self.clock.advance(self.judge_s)
        return ()

    def react(self, verdicts):
        self.reacted += 1


def observed(rounds, **took):
    """Horizons of the rounds; what ``took`` says is so in the second one only."""
    clock = FakeClock()
    detection = Timed(clock)
    it = Observer(platform=platform(), detection=detection, reconciler=None, clock=clock)
    for number in range(rounds):
        for name in ("look_s", "judge_s", "jump_s"):
            setattr(detection, name, took.get(name, 0.0) if number == 1 else 0.0)
        it.observe(list(platform().services.values()))
        clock.advance(0.5)
    return detection


@pytest.mark.parametrize(("look_s", "discards"), [(0.5, False), (1.4, False), (1.6, True), (10.0, True)])
def test_a_round_of_probes_that_took_far_too_long_was_a_pause(look_s, discards):
    detection = observed(2, look_s=look_s)

    assert (detection.horizons[1] is not None) is discards


@pytest.mark.parametrize("jump_s", [60.0, -60.0, 1.5, -1.5])
def test_after_the_wall_clock_was_set_nothing_from_before_counts(jump_s):
    detection = observed(3, jump_s=jump_s)

    assert detection.horizons[0] is None
    assert detection.horizons[1] == detection.horizons[2] is not None


def test_a_clock_that_is_slewed_by_ntp_is_no_jump():
    assert observed(3, jump_s=0.4).horizons == [None, None, None]


def test_who_was_paused_while_judging_does_not_act_on_what_it_came_to():
    """Ten seconds ago it was dead; by now another has mended it."""
    detection = observed(3, judge_s=10.0)

    assert detection.reacted == 2
    assert detection.horizons[2] is not None


def test_an_observer_that_is_late_for_its_round_discards_what_it_saw(ended):
    """SIGSTOP, a saturated machine: the loop comes 10 s late."""
    clock = SystemClock()
    paused = threading.Event()
    horizons = []

    class Late(SystemClock):
        def monotonic(self):
            return clock.monotonic() + (10.0 if paused.is_set() else 0.0)

    class Sees(Looks):
        def judge(self, services, horizon=None):
            horizons.append(horizon)
            if len(horizons) == 2:
                paused.set()
            if len(horizons) > 4:
                ended.set()
            return ()

    reconciler = Keeps(threading.Event(), None)
    reconciler.balancers = list
    Observer(platform=platform(), detection=Sees(), reconciler=reconciler, clock=Late()).run(ended)

    assert horizons[:2] == [None, None]
    assert horizons[-1] is not None
