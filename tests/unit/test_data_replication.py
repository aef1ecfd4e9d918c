"""DataReplication: every server and agent is asked, and who does not answer is part of the picture."""

from __future__ import annotations

import pytest

from ha_tasks.disaster_recovery.data_replication import DataReplication
from ha_tasks.model.cluster import Cluster, ClusterState, sync_set_of
from ha_tasks.model.replication import NodeRole
from ha_tasks.model.replication_findings import FindingCode
from tests.fakes.clock import FakeClock
from tests.fakes.host import FakeHostAgents
from tests.fakes.postgres import FakeNode, FakePostgresControl
from tests.fakes.redis import FakeRedisControl
from tests.fakes.repositories import FakeClusters
from tests.unit.builders import database

LSN = 0x3000000


def replication(streaming, sets, reachable=True):
    clusters = FakeClusters()
    cluster = Cluster(name="db", epoch=1, primary="pg1", state=ClusterState.STEADY, sets=sets)
    clusters.register(cluster, FakeClock().now())
    nodes = {
        "pg1": FakeNode(primary=True, reachable=reachable, standbys=dict.fromkeys(streaming, LSN)),
        "pg2": FakeNode(),
        "pg3": FakeNode(),
    }
    nodes["pg1"].settings["synchronous_standby_names"] = sets[-1].setting()
    agents = FakeHostAgents(primary="pg1", others=["pg2", "pg3"])
    control, redis = FakePostgresControl(nodes), FakeRedisControl()
    return DataReplication(control=control, clusters=clusters, agents=agents, redis=redis)


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
    assert report.recorded == ("ANY 1 (pg2, pg3)",)


def test_a_server_that_does_not_answer_is_part_of_the_picture():
    report = replication([], (sync_set_of(["pg2"]),), reachable=False).check(database())

    assert not report.ok
    assert report.nodes[0].role is NodeRole.SILENT
    assert report.risk.certainty == "unknown"
    assert (FindingCode.SILENT, "pg1") in {(f.code, f.node) for f in report.findings}


def test_a_cluster_that_is_not_in_care_is_shown_all_the_same():
    made = replication(["pg2", "pg3"], (sync_set_of(["pg2", "pg3"]),))
    made._clusters = FakeClusters()

    report = made.check(database())

    assert (report.primary, report.state, report.ok) == ("pg1", "not in care", False)
