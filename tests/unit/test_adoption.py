"""Taking a running cluster into care: what is refused, and what is set before it is recorded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ha_tasks.errors import Refused
from ha_tasks.model.cluster import ClusterState, sync_set_of
from ha_tasks.model.platform import ManagedBy
from ha_tasks.workflows.adoption import Adopter
from tests.unit.test_postgres_failover import World


@pytest.fixture
def world() -> World:
    world = World()
    world.store.clusters.clusters.clear()
    return world


@pytest.fixture
def adopter(world: World) -> Adopter:
    return Adopter(tools=world.tools, journal=world.store.journal)


def test_a_running_cluster_is_taken_into_care(world: World, adopter: Adopter) -> None:
    world.toy.nodes["pg2"].epoch = (4, 1)
    world.toy.nodes["pg1"].sync_setting = ""

    cluster = adopter.adopt(world.service, adopter.look(world.service))

    assert (cluster.primary, cluster.epoch, cluster.state) == ("pg1", 5, ClusterState.STEADY)
    assert cluster.sets == (sync_set_of(["pg2", "pg3"]),)
    assert world.toy.nodes["pg1"].sync_setting == "ANY 1 (pg2, pg3)"
    assert world.haproxy.states("pg_write") == {"pg1": "ready", "pg2": "maint", "pg3": "maint"}


def test_looking_changes_nothing(world: World, adopter: Adopter) -> None:
    adopter.look(world.service)

    assert [n.log for n in world.toy.nodes.values()] == [[], [], []]


def two_primaries(world: World) -> None:
    world.toy.nodes["pg2"].primary = True


def no_primary(world: World) -> None:
    world.toy.nodes["pg1"].primary = False


def a_deaf_standby(world: World) -> None:
    world.toy.nodes["pg3"].upstream = None


@pytest.mark.parametrize(
    ("break_it", "text"),
    [
        (two_primaries, "pg1 and pg2 of db both take writes"),
        (no_primary, "no node of db takes writes"),
        (a_deaf_standby, "pg3 of db do not stream from pg1"),
    ],
)
def test_what_is_not_one_primary_with_followers_is_refused_with_what_to_mend(
    world: World, adopter: Adopter, break_it, text: str
) -> None:
    break_it(world)

    with pytest.raises(Refused, match=text):
        adopter.look(world.service)


def test_a_cluster_in_care_is_not_adopted_twice(world: World, adopter: Adopter) -> None:
    adopter.adopt(world.service, adopter.look(world.service))

    with pytest.raises(Refused, match="in care already"):
        adopter.look(world.service)


def test_a_cluster_that_somebody_else_leads_is_refused(world: World, adopter: Adopter) -> None:
    with pytest.raises(Refused, match="led by Patroni"):
        adopter.look(replace(world.service, managed_by=ManagedBy.PATRONI))
