"""The observer's loops: none waits for another, and none is missed when it ends."""

from __future__ import annotations

import threading

import pytest

from ha_tasks.adapters.clock import SystemClock
from ha_tasks.errors import BalancerError, BalancerUnreachable
from ha_tasks.workflows.observation import Observer
from tests.unit.builders import platform


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


def test_an_error_that_nobody_expected_in_one_loop_ends_the_observer(ended):
    """Its worker is started again then; half an observer would look alive for ever."""
    with pytest.raises(ZeroDivisionError):
        observer(Breaks(ended, ZeroDivisionError())).run(ended)
