"""Replication out of probe outcomes."""

from __future__ import annotations

import pytest

from ha_tasks.model.probe import OutcomeKind
from ha_tasks.monitoring.replication import Lag, view
from tests.unit.builders import at, outcome

MEMBERS = frozenset({"pg1", "pg2", "pg3"})
NOW = at(100)
FRESH_S = 5.0


def primary(name="pg1", when=99.0, lsn=1000, **more):
    return outcome(name, when, in_recovery=False, timeline=1, lsn=lsn, **more)


def standby(name="pg2", when=99.1, lsn=1000, timeline=1, receiving=True, **more):
    return outcome(name, when, in_recovery=True, timeline=timeline, lsn=lsn, receiving=receiving, **more)


def look(*outcomes, members=MEMBERS):
    return view(sorted(outcomes, key=lambda o: o.sent_at), NOW, FRESH_S, members)


def test_one_primary_and_two_standbys():
    seen = look(primary(), standby("pg2"), standby("pg3"))

    assert (seen.primaries, seen.standbys_ready) == (1, 2)
    assert seen.timelines == {"pg1": 1, "pg2": 1, "pg3": 1}
    assert seen.lags == {"pg2": Lag(bytes=0, seconds=0.0), "pg3": Lag(bytes=0, seconds=0.0)}


def test_a_cluster_that_nobody_has_looked_at_lately_has_no_numbers():
    assert look(primary(when=94.9), standby(when=94.9)) is None
    assert look() is None


def test_a_node_that_does_not_answer_is_neither_primary_nor_ready():
    dead = outcome("pg1", 99.5, OutcomeKind.REFUSED)

    seen = look(primary(when=99.0), dead, standby())

    assert (seen.primaries, seen.standbys_ready, seen.lags) == (0, 1, {})


def test_a_node_that_one_vantage_still_reaches_counts():
    cut_off = outcome("pg1", 99.5, OutcomeKind.TIMEOUT, vantage="h2/b")

    assert look(primary(), cut_off).primaries == 1


def test_two_nodes_that_believe_they_are_primary_are_two_and_nobody_lags():
    seen = look(primary("pg1"), primary("pg2"), standby("pg3"))

    assert (seen.primaries, seen.lags) == (2, {})


@pytest.mark.parametrize(
    "unfit",
    [
        standby(receiving=False),
        standby(timeline=2),
        outcome("pg2", 99.1, in_recovery=True, timeline=1, lsn=1000),
        outcome("pg2", 99.1),
    ],
)
def test_a_standby_that_could_not_take_over_is_not_ready(unfit):
    assert look(primary(), unfit).standbys_ready == 0


def test_a_standby_whose_acknowledgement_does_not_count_is_not_ready():
    assert look(primary(), standby("pg2"), standby("pg3"), members=frozenset({"pg2"})).standbys_ready == 1
    assert look(primary(), standby("pg2"), members=frozenset()).standbys_ready == 0
    assert look(primary(), standby("pg2"), members=None).standbys_ready == 1


def test_lag_is_what_the_primary_has_written_and_the_standby_lacks():
    history = [primary(when=90 + n, lsn=1000 + 10 * n) for n in range(10)]

    seen = look(*history, standby(when=99.5, lsn=1055))

    # It stands where the primary stood at second 95, and the primary is at 1090 now.
    assert seen.lags["pg2"] == Lag(bytes=35, seconds=pytest.approx(4.5))


def test_a_steady_load_alone_is_no_lag():
    history = [primary(when=95 + n * 0.5, lsn=1000 + 10 * n) for n in range(10)]

    seen = look(*history, standby(when=99.6, lsn=1091))

    assert seen.lags["pg2"] == Lag(bytes=0, seconds=0.0)


def test_a_lag_longer_than_the_history_is_at_least_the_history():
    seen = look(primary(when=96, lsn=5000), primary(when=99, lsn=6000), standby(when=99.5, lsn=10))

    assert seen.lags["pg2"] == Lag(bytes=5990, seconds=3.5)


def test_facts_that_are_missing_leave_their_numbers_out():
    seen = look(outcome("pg1", 99.0, in_recovery=False), outcome("pg2", 99.0, in_recovery=True))

    assert (seen.primaries, seen.timelines, seen.lags) == (1, {}, {})
