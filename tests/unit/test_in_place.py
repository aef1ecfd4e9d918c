"""A crashed primary whose failover is refused for now is started again where it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ha_tasks.errors import ActionFailed
from ha_tasks.model.cluster import ClusterState
from ha_tasks.model.incident import IncidentState
from ha_tasks.model.platform import ManagedBy
from ha_tasks.model.self_fence import Standing
from ha_tasks.ports.host import Authority, Postmaster
from ha_tasks.workflows.in_place import InPlace
from ha_tasks.workflows.standings import Standings
from tests.fakes.host import FakeHostAgents
from tests.unit.builders import database
from tests.unit.test_detection import OK, REFUSED, World

FAR = datetime(2100, 1, 1, tzinfo=UTC)


class Crashed(World):
    """The primary pg1 has crashed; its agent, and those of the standbys, are there."""

    def __init__(self, *, cooling=True):
        super().__init__(database())
        self.cluster()
        self.agents = FakeHostAgents(primary="pg1", others=["pg2", "pg3"])
        self.agents.nodes["pg1"].postmaster = Postmaster.EXITED
        if cooling:
            self.store.limits.cool("db", "postgres-failover", FAR)
        self.health.kinds["pg1"] = REFUSED
        for node in ("pg2", "pg3"):
            self.health.facts[node] = {"in_recovery": True, "receiving": False}

    def in_place(self):
        store = self.store
        return InPlace(
            platform=self.platform,
            clusters=store.clusters,
            agents=self.agents,
            incidents=store.incidents,
            limits=store.limits,
            journal=store.journal,
            clock=self.clock,
            actor="h/test",
            held=lambda: self.held,
        )

    def started(self):
        self.in_place().look()
        return [node for verb, node in self.agents.commands if verb == "start_primary"]

    def story(self):
        return [entry.text for entry in self.store.incidents.timeline(self.incidents[0].id)]


def test_while_its_failover_cools_down_a_crashed_primary_is_started_again():
    world = Crashed()
    world.rounds(4)
    assert world.incidents[0].state is IncidentState.BLOCKED

    assert world.started() == ["pg1"]
    assert world.agents.nodes["pg1"].sync_setting == "ANY 1 (pg2, pg3)"
    assert world.story()[-1] == "pg1 was started again in place, for its failover is refused by cool_down"
    world.health.kinds["pg1"] = OK
    world.rounds(2)
    assert world.incidents[0].state is IncidentState.RESOLVED


def test_where_a_failover_may_begin_nothing_is_started_beside_it():
    world = Crashed(cooling=False)
    world.rounds(4)

    assert world.incidents[0].state is IncidentState.RECOVERING
    assert world.started() == []


def refused_by_switch(world):
    world.store.limits.set_switch("stop", True, "anna", "I work on it", world.clock.now())


def held(world):
    world.rounds(4)
    world.held = "an old store"


def frozen(world):
    world.agents.nodes["pg1"].postmaster = Postmaster.RUNNING


def silent(world):
    world.agents.silent.add("pg1")


def failing(world):
    world.store.clusters.advance("db", 1, world.clock.now(), new_epoch=True, state=ClusterState.FAILING)


def led_by_others(world):
    object.__setattr__(world.platform.services["db"], "managed_by", ManagedBy.PATRONI)


@pytest.mark.parametrize("why", [refused_by_switch, held, frozen, silent, failing, led_by_others])
def test_nothing_is_started(why):
    """A person has said no; the store is not trusted; it runs; nobody can say; somebody else leads."""
    world = Crashed()
    why(world)
    world.rounds(4)

    assert world.started() == []


def test_a_node_that_is_not_the_recorded_primary_any_more_is_not_started():
    world = Crashed()
    world.rounds(4)
    world.store.clusters.advance("db", 1, world.clock.now(), new_epoch=True, primary="pg2")

    assert world.started() == []


def test_what_a_failover_has_overtaken_is_refused_by_the_agent_and_is_no_trouble():
    world = Crashed()
    world.rounds(4)
    world.agents.fence("pg1", Authority(epoch=2, fence=1))

    world.in_place().look()

    assert world.agents.nodes["pg1"].postmaster is Postmaster.EXITED
    assert "started again" not in world.story()[-1]


def test_a_start_that_fails_is_told_once_and_tried_again():
    world = Crashed()
    world.rounds(4)
    begin, tries = world.agents.start_primary, []

    def fails(node, setting, by, *, timeout_s=30.0):
        tries.append(node)
        if len(tries) < 3:
            raise ActionFailed("no space left on device")
        begin(node, setting, by)

    world.agents.start_primary = fails
    in_place = world.in_place()
    for _ in range(2):
        with pytest.raises(ActionFailed):
            in_place.look()
    in_place.look()

    assert len([text for text in world.story() if "no space left" in text]) == 1
    assert "started again" in world.story()[-1]


def test_two_observers_that_both_give_the_order_tell_it_once():
    """The agent finds it started at the second order, and says no: it is as it was told to be."""
    world = Crashed()
    world.rounds(4)
    first, second = world.in_place(), world.in_place()
    begin = world.agents.start_primary

    def while_another_looks(*args, **more):
        world.agents.start_primary = begin
        second.look()
        begin(*args, **more)

    world.agents.start_primary = while_another_looks
    first.look()

    assert len([text for text in world.story() if "was started again in place" in text]) == 1


# --- what the agents are told ---


def standings(world):
    return Standings(
        platform=world.platform,
        clusters=world.store.clusters,
        agents=world.agents,
        held=lambda: world.held,
    )


def test_every_agent_is_told_what_the_store_says_and_a_silent_one_is_in_nobody_s_way():
    world = Crashed()
    world.agents.silent.add("pg2")
    standings(world).tell()
    world.store.clusters.advance("db", 1, world.clock.now(), new_epoch=True, state=ClusterState.FAILING)
    standings(world).tell()

    told = [
        Standing(epoch=1, primary="pg1", steady=True),
        Standing(epoch=2, primary="pg1", steady=False),
    ]
    assert {name: node.told for name, node in world.agents.nodes.items()} == {
        "pg1": told,
        "pg2": [],
        "pg3": told,
    }


def test_a_store_that_is_held_says_nothing_to_anybody():
    world = Crashed()
    world.held = "an old store"
    standings(world).tell()

    assert all(node.told == [] for node in world.agents.nodes.values())


def test_a_refusal_of_an_earlier_moment_is_not_acted_on_after_a_person_has_said_no():
    world = Crashed()
    world.rounds(4)
    world.clock.advance(timedelta(seconds=1).total_seconds())
    refused_by_switch(world)
    world.rounds(1)

    assert world.started() == []
