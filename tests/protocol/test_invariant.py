"""At most one node can acknowledge, and no acknowledged row is lost, whatever happens in whatever order."""

from __future__ import annotations

import pytest

from tests.protocol.explorer import LEADER, History, explore, history_of, play
from tests.protocol.machine import many_histories
from tests.protocol.traces import FAIL_OVER, TRACES

SEEDS = range(200)
MANY = range(1000, 11_000)


def test_histories_by_hypothesis():
    with many_histories() as play_many:
        play_many(40, steps=25)


def test_histories_by_number(make):
    played, found = explore(SEEDS, make)

    assert found is None, found
    assert played == len(SEEDS)


@pytest.mark.full
def test_ten_thousand_histories_by_number(make):
    played, found = explore(MANY, make)

    assert found is None, found
    assert played == 10_000


@pytest.mark.full
def test_many_histories_by_hypothesis():
    with many_histories() as play_many:
        play_many(2000, steps=50)


def test_a_history_is_the_same_whenever_it_is_played(make):
    first = play(history_of(7), make)
    again = play(history_of(7), make)

    assert history_of(7) == history_of(7)
    assert first.told() == again.told()
    assert first.net.acknowledged == again.net.acknowledged


@pytest.mark.parametrize(("silent", "primary"), [((), "pg2"), ((2,), "pg1"), ((1,), "pg1")])
def test_where_r_plus_w_is_not_more_than_n_a_promotion_is_refused(make, silent, primary):
    """N = 2 and W = 1: both standbys have to confirm."""
    events = [("kill_agent", (n,)) for n in (0, *silent)]
    world = make(3)
    for name, (node,) in events:
        getattr(world, name)(world.names[node])
    world.suspect("pg1")
    world.work("A", 100_000)
    world.check()

    assert world.leader == primary
    assert bool(world.promotions) == (primary == "pg2")
    world.end()


def test_what_the_traces_do_is_harmless_as_long_as_every_rule_is_there(make):
    for name, history in TRACES.items():
        world = play(history, make)
        assert world.net.acknowledged, name


def test_a_follower_of_the_candidate_that_stops_is_started_again_also_after_a_refusal(make):
    """Found by these histories: once it was revoked, stopped, it followed nobody, and nobody started it."""
    refused = (("kill_server", (3,)), ("work", ("A", 100_000, None)), ("suspect", (LEADER,)))
    first = (FAIL_OVER[0], ("work", ("A", 100_000, None)), FAIL_OVER[0])
    half = ("work_until", ("A", "promote answered"))
    play(History(4, (*first, half, *refused, ("work", ("A", 100_000, None)))), make)


@pytest.mark.parametrize("seen", ["choose_candidate.done", "promote answered"])
def test_a_candidate_that_was_chosen_twice_and_stopped_is_started_again(make, seen):
    """Found by these histories: by its mark it was looked for as if it had been chosen once."""
    forgotten = (("cut", (1, 2)), FAIL_OVER[0], ("work", ("A", 100_000, None)))
    again = (FAIL_OVER[0], ("work_until", ("A", seen)), ("kill_server", (1,)))
    play(History(3, (*forgotten, *again)), make)


def test_after_a_power_cut_in_the_middle_of_a_failover_everything_comes_back(make):
    """Found by these histories: nobody started a stopped node while the cluster was failing over."""
    cut = tuple(("kill_host", (node,)) for node in range(4))
    for seen in ("choose_candidate.done", "promote", "promote answered", "commit_primary.claimed"):
        begun = (("kill_host", (0,)), FAIL_OVER[0], ("work_until", ("A", seen)), ("write", (LEADER,)))
        play(History(4, (*begun, *cut)), make)
