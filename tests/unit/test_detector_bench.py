"""The bench of failure detectors: what is right, what an episode holds, and what the tables say."""

from __future__ import annotations

import pytest

from tests.benchmarks.detector.contest import Played, play
from tests.benchmarks.detector.episodes import FAULTS, NOISES, Setting, episode
from tests.benchmarks.detector.peers import CONTENDERS
from tests.benchmarks.detector.tables import mistakes, row

SETTING = Setting()


def played(fault, *alarms_s, noise="calm"):
    return Played(contender="ours", noise=noise, fault=fault, alarms_s=alarms_s)


@pytest.mark.parametrize(
    ("what", "right"),
    [
        (played(None), True),
        (played(None, 3.0), False),
        (played("crash", 1.5), True),
        (played("crash"), False),
        (played("crash", -1.0, 1.5), False),
    ],
)
def test_who_cries_before_the_failure_has_not_found_it(what, right):
    assert what.right is right


def test_an_episode_is_the_same_again_and_its_outcomes_are_in_the_order_of_arrival():
    for noise in NOISES:
        what = episode(7, SETTING, noise, "crash loop")

        assert what == episode(7, SETTING, noise, "crash loop")
        assert list(what.arrivals) == sorted(what.arrivals)


def test_second_looks_follow_failures_alone():
    assert not any(episode(7, SETTING, "calm", None).extra)
    assert any(episode(7, SETTING, "calm", "crash").extra)


@pytest.mark.parametrize("name", CONTENDERS)
def test_every_contender_keeps_quiet_while_all_is_well(name):
    assert play(name, SETTING, episode(11, SETTING, "calm", None)).alarms_s == ()


@pytest.mark.parametrize("fault", FAULTS)
def test_ours_finds_each_fault_in_time(fault):
    assert play("ours", SETTING, episode(11, SETTING, "calm", fault)).right


def test_a_row_says_the_shares_and_the_times():
    mine = [played(None), played(None, 1.0), played("crash", 1.0), played("crash", 2.0), played("crash loop")]
    told = row("ours", mine)

    assert told[:5] == ["ours", "60.00", "66.67", "50.00", "2.00/2.00"]
    assert told[-1] == "0.00"


def test_mistakes_are_told_with_noise_and_fault():
    told = mistakes([played(None, 2.5, noise="slow x4"), played("hang"), played(None)], "ours")

    assert told.splitlines() == [
        "ours, wrong in 2:",
        "  calm, hang: missed",
        "  slow x4, healthy: false, +2.5 s",
    ]
