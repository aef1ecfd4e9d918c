"""DataReplication: whether a failover would lose nothing, by who streams and who should."""

from __future__ import annotations

import pytest

from ha_tasks.disaster_recovery.data_replication import DataReplication
from ha_tasks.errors import ServiceUnreachable
from ha_tasks.model.cluster import Cluster, ClusterState, sync_set_of
from tests.fakes.clock import FakeClock
from tests.fakes.postgres import FakeNode, FakePostgresControl
from tests.fakes.repositories import FakeClusters
from tests.unit.builders import database


def replication(streaming, sets, reachable=True):
    clusters = FakeClusters()
    cluster = Cluster(name="db", epoch=1, primary="pg1", state=ClusterState.STEADY, sets=sets)
    clusters.register(cluster, FakeClock().now())
    node = FakeNode(primary=True, reachable=reachable, standbys=dict.fromkeys(streaming, 1))
    return DataReplication(control=FakePostgresControl({"pg1": node}), clusters=clusters)


@pytest.mark.parametrize(
    ("streaming", "members", "ok"),
    [
        (["pg2", "pg3"], ["pg2", "pg3"], True),
        (["pg3"], ["pg2", "pg3"], True),
        ([], ["pg2", "pg3"], False),
        (["pg2"], ["pg3"], False),
        (["pg2", "pg3"], [], False),
    ],
)
def test_it_is_well_while_the_quorum_of_the_synchronous_set_streams(streaming, members, ok):
    report = replication(streaming, (sync_set_of(members),)).check(database())

    assert report.ok is ok
    assert report.to_json()["ok"] is ok


def test_while_two_sets_stand_both_must_stream():
    both = (sync_set_of(["pg2"]), sync_set_of(["pg3"]))

    assert not replication(["pg2"], both).check(database()).ok


def test_who_is_missing_is_named():
    report = replication(["pg3"], (sync_set_of(["pg2", "pg3"]),)).check(database())

    assert report.missing == ("pg2",)
    assert report.synchronous == ("pg2", "pg3")


def test_a_primary_that_does_not_answer_is_an_error_of_the_check():
    with pytest.raises(ServiceUnreachable):
        replication([], (sync_set_of(["pg2"]),), reachable=False).check(database())
