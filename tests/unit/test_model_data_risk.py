"""What a failover could lose, by what the probes saw last."""

from __future__ import annotations

import pytest

from ha_tasks.model.cluster import Cluster, ClusterState, SyncSet, sync_set_of
from ha_tasks.model.data_risk import UNKNOWN, Loss, possible_loss
from ha_tasks.model.probe import OutcomeKind
from tests.unit.builders import at, outcome

ASYNC = SyncSet(quorum=0, members=())


def cluster(*sets: SyncSet) -> Cluster:
    return Cluster(name="db", epoch=1, primary="pg1", state=ClusterState.STEADY, sets=sets)


def primary(when, lsn):
    return outcome("pg1", when, in_recovery=False, lsn=lsn)


def standby(name, when, lsn):
    return outcome(name, when, in_recovery=True, lsn=lsn)


HISTORY = [
    primary(0, 1000),
    standby("pg2", 0.1, 1000),
    primary(1, 1500),
    standby("pg2", 1.1, 1500),
    primary(2, 2000),
    standby("pg2", 2.1, 1800),
    outcome("pg1", 3, OutcomeKind.REFUSED),
]


def test_between_the_last_positions_lies_what_may_be_lost():
    """pg2 has what the primary had at 1 s; the first failed probe was at 3 s."""
    assert possible_loss(HISTORY, cluster(ASYNC), at(3)) == Loss(bytes=200, seconds=2.0, primary_at=2000)


def test_nothing_can_be_lost_while_a_safe_promotion_is_in_sight():
    both = [*HISTORY, standby("pg3", 2.1, 1700)]

    assert possible_loss(both, cluster(sync_set_of(["pg2", "pg3"])), at(3)) is None


def test_where_too_few_standbys_are_left_the_furthest_counts():
    """ANY 1 of two, and only one of them answers: the other may hold rows that it does not have."""
    gone = [*HISTORY, outcome("pg3", 3, OutcomeKind.TIMEOUT)]

    assert possible_loss(gone, cluster(sync_set_of(["pg2", "pg3"])), at(3)) == Loss(
        bytes=200, seconds=2.0, primary_at=2000
    )


@pytest.mark.parametrize(
    "history",
    [
        [],
        [standby("pg2", 0, 1000)],
        [primary(0, 1000)],
        [primary(0, 1000), outcome("pg2", 0, OutcomeKind.REFUSED)],
        [primary(0, 1000), outcome("pg2", 0, in_recovery=True)],
        [primary(0, 1000), outcome("pg2", 0, in_recovery=False, lsn=1000)],
        [outcome("pg1", 0, in_recovery=False), standby("pg2", 0, 1000)],
    ],
    ids=[
        "nobody looked",
        "no primary was seen",
        "no standby was seen",
        "the standby is down",
        "the standby said no position",
        "the other is no standby",
        "the primary said no position",
    ],
)
def test_without_a_position_of_both_the_loss_is_not_known(history):
    assert possible_loss(history, cluster(ASYNC), at(3)) == UNKNOWN
    assert not UNKNOWN.known


def test_a_standby_that_never_had_it_is_behind_at_least_since_the_first_look():
    history = [primary(0, 5000), standby("pg2", 0.1, 1000), primary(1, 6000)]

    assert possible_loss(history, cluster(ASYNC), at(3)) == Loss(bytes=5000, seconds=3.0, primary_at=6000)


def test_a_standby_that_was_seen_later_than_the_primary_may_have_all_of_it():
    history = [primary(0, 1000), standby("pg2", 0.4, 1200)]

    assert possible_loss(history, cluster(ASYNC), at(0.5)) == Loss(bytes=0, seconds=0.5, primary_at=1000)
