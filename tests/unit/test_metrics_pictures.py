"""Metrics of the latest looks at replication and health: said while they are fresh, absent afterwards."""

from __future__ import annotations

import pytest

from ha_tasks.model.cluster import Cluster, ClusterState, sync_set_of
from ha_tasks.model.replication_findings import FindingCode
from tests.unit.metrics_reading import Stage

SLOTS = [
    {"name": "ha_pg2", "active": True, "holds": 5},
    {"name": "old", "active": False, "holds": 1024},
    {"name": "unused", "active": False, "holds": None},
]
PICTURE = {
    "findings": [{"code": "commit_weakened"}],
    "missing": ["pg3"],
    "risk": {"certainty": "measured", "bytes": 128, "seconds": 0.5},
    "nodes": [
        {"node": "pg1", "role": "primary", "silent_s": None, "slots": SLOTS},
        {"node": "pg2", "role": "standby", "silent_s": 0.2, "slots": []},
        {"node": "pg3", "role": "silent", "silent_s": None, "slots": []},
    ],
}


@pytest.fixture
def stage():
    made = Stage()
    record = Cluster(
        name="db", epoch=1, primary="pg1", state=ClusterState.BLOCKED, sets=(sync_set_of(["pg2"]),)
    )
    made.store.clusters.register(record, made.clock.now())
    made.store.replication.put("db", PICTURE, made.clock.now())
    made.store.replication.put("taken_out", PICTURE, made.clock.now())
    return made


def test_a_fresh_picture_is_told(stage):
    seen = stage.scrape()

    assert seen["ha_replication_missing"] == {("db",): 1.0}
    assert seen["ha_replication_risk_known"] == {("db",): 1.0}
    assert seen["ha_replication_risk_bytes"] == {("db",): 128.0}
    assert seen["ha_replication_risk_seconds"] == {("db",): 0.5}
    assert seen["ha_replication_receiver_silence_seconds"] == {("db", "pg2"): 0.2}
    assert seen["ha_replication_slot_held_bytes"] == {("db", "pg1"): 1024.0, ("db", "pg2"): 0.0}
    found = seen["ha_replication_finding"]
    assert len(found) == len(FindingCode)
    assert [words for words, value in found.items() if value] == [("db", "commit_weakened")]


def test_what_is_recorded_is_told_whoever_has_looked(stage):
    stage.clock.advance(3600)
    seen = stage.scrape()

    assert [words for words, value in seen["ha_cluster_state"].items() if value] == [("db", "blocked")]
    assert len(seen["ha_cluster_state"]) == len(ClusterState)
    assert seen["ha_service_rpo_seconds"] == {("db",): 0.0}


def test_a_picture_that_is_old_says_nothing_about_now(stage):
    stage.clock.advance(31)
    seen = stage.scrape()

    assert not {name for name in seen if name.startswith(("ha_replication_risk", "ha_replication_finding"))}


def test_what_is_not_known_has_no_number(stage):
    unknown = {**PICTURE, "risk": {"certainty": "unknown", "bytes": None, "seconds": None}}
    stage.store.replication.put("db", unknown, stage.clock.now())
    seen = stage.scrape()

    assert seen["ha_replication_risk_known"] == {("db",): 0.0}
    assert "ha_replication_risk_bytes" not in seen


HEALTH = {
    "is_healthy": False,
    "base_health": {"score": None},
    "service_health": {"score": 1.0},
    "infrastructure_health": {"score": 0.4},
    "database_health": {"score": 1.0},
    "external_dependencies": {"score": None},
}


def test_the_health_of_the_system_is_told_while_the_look_is_fresh():
    made = Stage()
    assert "ha_system_healthy" not in made.scrape()

    made.store.health.put(HEALTH, made.clock.now())
    seen = made.scrape()

    assert seen["ha_system_healthy"] == {(): 0.0}
    assert seen["ha_area_health_score"] == {
        ("services",): 1.0,
        ("infrastructure",): 0.4,
        ("databases",): 1.0,
    }

    made.clock.advance(46)

    assert "ha_system_healthy" not in made.scrape()
