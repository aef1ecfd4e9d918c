"""The watch over replication on fakes: what lasts becomes one incident, and what is over is resolved."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ha_tasks.disaster_recovery.data_replication import DataReplication
from ha_tasks.model.cluster import Cluster, ClusterState, sync_set_of
from ha_tasks.model.incident import IncidentKind, IncidentState
from ha_tasks.model.replication import Weakening
from ha_tasks.workflows.replication_watch import ReplicationWatch
from tests.fakes.clock import FakeClock
from tests.fakes.host import FakeHostAgents
from tests.fakes.postgres import FakeNode, FakePostgresControl
from tests.fakes.redis import FakeRedisControl
from tests.fakes.repositories import FakeStore
from tests.plans import new_run, plan_of
from tests.unit.builders import database

WEAK = (Weakening(role="etl", database="", value="off"),)
LSN = 0x3000000


class World:
    def __init__(self):
        self.store, self.clock, self.service = FakeStore(), FakeClock(), database()
        both = sync_set_of(["pg2", "pg3"])
        record = Cluster(name="db", epoch=1, primary="pg1", state=ClusterState.STEADY, sets=(both,))
        self.store.clusters.register(record, self.clock.now())
        self.primary = FakeNode(primary=True, standbys={"pg2": LSN, "pg3": LSN})
        self.primary.settings["synchronous_standby_names"] = both.setting()
        self.nodes = {"pg1": self.primary, "pg2": FakeNode(), "pg3": FakeNode()}
        self.control = FakePostgresControl(self.nodes)
        self.watch = ReplicationWatch(
            replication=DataReplication(
                control=self.control,
                clusters=self.store.clusters,
                agents=FakeHostAgents(primary="pg1", others=["pg2", "pg3"]),
                redis=FakeRedisControl(),
            ),
            book=self.store.replication,
            incidents=self.store.incidents,
            journal=self.store.journal,
            ledger=self.store.ledger,
            clock=self.clock,
            actor="h/test",
        )

    def looks(self, *seconds):
        for after in seconds:
            self.clock.advance(after)
            self.watch.look(self.service)

    @property
    def incidents(self):
        return self.store.incidents.recent(10)


@pytest.fixture
def world():
    return World()


def test_of_a_healthy_cluster_the_picture_is_kept_and_nobody_is_told(world):
    world.looks(10, 10, 10)

    at, picture = world.store.replication.latest()["db"]
    assert (at, picture["ok"], picture["findings"]) == (world.clock.now(), True, [])
    assert world.incidents == ()


def test_what_lasts_becomes_one_incident_that_says_how_to_mend_it(world):
    world.primary.said["weakened"] = WEAK
    world.looks(10)
    begun = world.clock.now()
    world.looks(10)
    early = world.incidents
    world.looks(10, 10, 10)

    (incident,) = world.incidents
    assert early == ()
    assert (incident.kind, incident.instance) == (IncidentKind.REPLICATION_FAULT, "pg1")
    assert (incident.severity, incident.fault_at) == ("warning", begun)
    assert "RESET synchronous_commit" in incident.evidence["remedy"]


def test_what_is_mended_is_resolved(world):
    world.primary.said["weakened"] = WEAK
    world.looks(10, 10, 10)
    world.primary.said.clear()
    world.looks(10)

    assert [incident.state for incident in world.incidents] == [IncidentState.RESOLVED]


def test_what_comes_and_goes_is_told_to_nobody(world):
    for _ in range(4):
        world.primary.said["weakened"] = WEAK
        world.looks(10)
        world.primary.said.clear()
        world.looks(10)

    assert world.incidents == ()


def test_between_two_looks_that_are_far_apart_nothing_lasted(world):
    world.primary.said["weakened"] = WEAK
    world.looks(10, 600)

    assert world.incidents == ()


def test_of_a_server_that_cannot_be_asked_nothing_is_known_to_be_over(world):
    world.primary.said["weakened"] = WEAK
    world.looks(10, 10, 10)
    world.primary.reachable = False
    world.looks(10)

    assert [incident.state for incident in world.incidents] == [IncidentState.OPEN]


@pytest.mark.parametrize("why", ["a run", "a failover"])
def test_while_it_is_being_recovered_nobody_is_told_of_the_disorder(world, why):
    world.primary.said["weakened"] = WEAK
    if why == "a run":
        run = new_run(replace(plan_of(), scope="db", service="db"), key="k")
        world.store.journal.create(run, world.clock.now())
    else:
        world.store.clusters.advance("db", 1, world.clock.now(), new_epoch=True, state=ClusterState.FAILING)
    world.looks(10, 10, 10)

    assert world.incidents == ()


def test_what_the_detector_finds_is_not_told_twice(world):
    world.primary.standbys.clear()
    world.looks(10, 10, 10)

    codes = {finding["code"] for finding in world.store.replication.latest()["db"][1]["findings"]}
    assert {"redundancy_missing", "not_following"} <= codes
    assert world.incidents == ()
