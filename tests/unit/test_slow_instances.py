"""An instance that answers far later than it used to: what is usual, and when slowness is a failure."""

from __future__ import annotations

import pytest

from ha_tasks.model.probe import OutcomeKind, Target
from ha_tasks.model.usual import STALE, UsualLatency
from ha_tasks.model.verdict import Verdict, VerdictState
from ha_tasks.recovery.failure_detector import DetectorSettings, FailureDetector
from tests.unit.builders import at, outcome, web

DETECTOR = FailureDetector(DetectorSettings())
WEB1 = Target(service="web", instance="web1")


def judged(*, web1_s, web2_s=0.005, vantages=("h1/a", "h2/b"), slow_vantages=2, usual_s=None):
    """Ten seconds as always, then six at these latencies; ``slow_vantages`` see web1 so."""
    outcomes = [
        outcome(
            name,
            n * 0.5,
            service="web",
            vantage=vantage,
            rtt_s=now_s if n >= 20 and (name != "web1" or place < slow_vantages) else 0.005,
        )
        for n in range(33)
        for place, vantage in enumerate(vantages)
        for name, now_s in (("web1", web1_s), ("web2", web2_s), ("web3", 0.005))
    ]
    found = DETECTOR.analyze_system_state(web(), outcomes, at(16.5), usual_s=usual_s)
    return {v.target.instance: v for v in found}


@pytest.mark.parametrize(
    ("took", "state"),
    [
        ({"web1_s": 0.02}, VerdictState.HEALTHY),  # four times as long, and nobody would notice
        ({"web1_s": 0.09}, VerdictState.HEALTHY),  # less than a fifth of the timeout
        ({"web1_s": 0.15}, VerdictState.SLOW),
        ({"web1_s": 0.4}, VerdictState.FAILED),
        ({"web1_s": 0.4, "slow_vantages": 1}, VerdictState.HEALTHY),  # that path is slow, not the instance
        ({"web1_s": 0.4, "web2_s": 0.4}, VerdictState.SLOW),  # the load, or something behind them
        ({"web1_s": 0.4, "usual_s": {WEB1: 0.3}}, VerdictState.HEALTHY),
    ],
)
def test_slow_is_what_takes_far_longer_than_usual_and_failed_what_does_so_alone(took, state):
    assert judged(**took)["web1"].state is state


def test_the_verdict_names_both_latencies():
    assert judged(web1_s=0.4)["web1"].evidence == "answers: in 400 ms instead of 5 ms, alone among 3"


def test_a_failed_probe_took_the_timeout():
    """A hang that lets some answers through is not quicker than one that lets all of them wait."""
    kinds = [OutcomeKind.OK] * 20 + [OutcomeKind.OK, OutcomeKind.TIMEOUT, OutcomeKind.TIMEOUT] * 4
    outcomes = [
        outcome("web1", n * 0.5, kind, service="web", vantage=vantage, rtt_s=0.005)
        for n, kind in enumerate(kinds)
        for vantage in ("h1/a", "h2/b")
    ]
    found = DETECTOR.analyze_system_state(web(), outcomes, at(16))

    assert next(v for v in found if v.target == WEB1).latency_s == 0.5


def learned(*verdicts):
    usual = UsualLatency()
    for when, state, latency_s in verdicts:
        usual.learn([Verdict(target=WEB1, state=state, evidence="", latency_s=latency_s)], at(when))
    return usual


def test_what_is_usual_is_the_median_of_samples_ten_seconds_apart():
    usual = learned(*((n, VerdictState.HEALTHY, 0.01 * (1 + n // 10)) for n in range(30)))

    assert usual.known(at(30)) == {WEB1: pytest.approx(0.02)}


def test_of_what_is_not_well_nothing_is_learned_and_two_samples_are_too_few():
    slow = ((n, VerdictState.SLOW, 0.4) for n in range(0, 100, 10))
    unknown = ((n, VerdictState.HEALTHY, None) for n in range(0, 100, 10))
    few = ((n, VerdictState.HEALTHY, 0.01) for n in (100, 110))

    assert learned(*slow, *unknown, *few).known(at(120)) == {}


def test_what_was_usual_long_ago_is_not_usual_now():
    usual = learned(*((n, VerdictState.HEALTHY, 0.01) for n in range(0, 30, 10)))

    assert usual.known(at(20) + STALE) != {}
    assert usual.known(at(21) + STALE) == {}
