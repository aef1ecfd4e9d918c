"""Slots of nodes that left the inventory: dropped where they are ours by the record, else left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_tasks.model.cluster import ClusterState
from ha_tasks.model.incident import IncidentState
from ha_tasks.model.replication import Slot
from ha_tasks.model.replication_slots import is_abandoned, left_by, slot_name
from ha_tasks.ports.host import Authority
from ha_tasks.workflows.abandoned_slots import AbandonedSlots
from tests.fakes.revisions import FakeRevisions
from tests.unit.test_replication_watch import World

NODES = ("pg1", "pg2", "pg3")
LEFT = Slot(name="ha_pg4", physical=True, active=False, wal_status="reserved", holds=3 * 1024**2)


def content(*nodes, listed=False):
    instances = [{"name": n} for n in nodes] if listed else {n: {} for n in nodes}
    return {"services": {"db": {"instances": instances}}}


class Left(World):
    """pg4 was in the inventory by revision 1, and left its slot on pg1; it is in revision 2 no more."""

    def __init__(self, *, before=(*NODES, "pg4"), after=NODES):
        super().__init__()
        self.revisions, self.stopped, self.held = FakeRevisions(), False, None
        for no, nodes in enumerate(filter(None, (before, after))):
            self.revisions.apply(
                content(*nodes), [], actor="x", reason="", now=self.clock.now(), onto=no or None
            )
        self.primary.said["slots"] = (LEFT,)
        self.agents = self.watch._replication._agents
        self.agents.start_primary("pg1", "", Authority(epoch=1, fence=0))
        self.agents.nodes["pg1"].slots[LEFT.name] = False
        self.slots = AbandonedSlots(
            revisions=self.revisions,
            clusters=self.store.clusters,
            agents=self.agents,
            journal=self.store.journal,
            clock=self.clock,
            stopped=lambda _: self.stopped,
            held=lambda: self.held,
        )
        self.watch._drop_slot = self.slots.drop

    @property
    def there(self):
        return LEFT.name in self.agents.nodes["pg1"].slots

    @property
    def story(self):
        return [entry.text for entry in self.store.incidents.timeline(self.incidents[0].id)]


def test_the_slot_of_a_node_that_was_taken_out_is_told_of_and_dropped_and_the_story_says_so():
    world = Left()
    world.looks(10)
    assert (world.there, world.incidents) == (True, ())

    world.looks(10, 10)
    assert not world.there
    assert (
        "slot ha_pg4 is of no instance of the cluster, is read by nobody and holds 3.0 MB" in world.story[0]
    )
    assert world.story[-1] == (
        "dropped slot ha_pg4 on pg1: pg4, whose it was, left the inventory by revision 2"
    )

    world.primary.said["slots"] = ()
    world.looks(10)
    assert world.incidents[0].state is IncidentState.RESOLVED


@pytest.mark.parametrize(
    "world",
    [
        Left(before=(), after=NODES),
        Left(before=NODES, after=(*NODES, "pg5")),
        Left(before=NODES, after=(*NODES, "pg4")),
    ],
    ids=["no revision had it", "another came", "it was added, and this process does not know it yet"],
)
def test_one_that_no_revision_took_out_is_never_dropped(world):
    world.looks(10, 10, 10, 10)

    assert world.there
    assert ("drop_slot", "pg1") not in world.agents.commands
    assert len(world.story) == 1


def test_while_automation_is_off_or_the_store_is_held_nothing_is_dropped():
    for hold in ({"stopped": True}, {"held": "revision 3 is applied"}):
        world = Left()
        for name, value in hold.items():
            setattr(world, name, value)
        world.looks(10, 10, 10, 10)

        assert world.there


def test_while_the_cluster_is_blocked_or_the_node_counts_in_the_set_nothing_is_dropped():
    for change in ("blocked", "member"):
        world = Left()
        cluster = world.store.clusters.get("db")
        sets = (replace(cluster.sets[0], members=("pg2", "pg4")),)
        world.store.clusters.advance(
            "db",
            1,
            world.clock.now(),
            new_epoch=True,
            **({"state": ClusterState.BLOCKED} if change == "blocked" else {"sets": sets}),
        )
        world.looks(10, 10, 10, 10)

        assert world.there


def test_an_agent_that_refuses_is_asked_again_and_the_story_says_it_once():
    world = Left()
    world.agents.nodes["pg1"].slots[LEFT.name] = True
    world.looks(10, 10, 10, 10)

    assert world.there
    assert [text.partition(":")[0] for text in world.story[1:]] == ["cannot drop slot ha_pg4 on pg1"]
    assert "read by somebody" in world.story[-1]

    world.agents.nodes["pg1"].slots[LEFT.name] = False
    world.looks(10)
    assert not world.there


@pytest.mark.parametrize(
    "other",
    [
        replace(LEFT, name="pg4"),
        replace(LEFT, name="subscription"),
        replace(LEFT, physical=False),
        replace(LEFT, active=True),
        replace(LEFT, wal_status=None),
        replace(LEFT, name="ha_pg2"),
    ],
)
def test_slots_of_others_of_nodes_that_are_there_that_are_read_or_hold_nothing_are_not_abandoned(other):
    assert is_abandoned(LEFT, NODES)
    assert not is_abandoned(other, NODES)


@given(st.lists(st.sets(st.sampled_from(["pg1", "pg-4", "pg_4", "pg5"])), max_size=5), st.booleans())
def test_a_slot_is_ours_by_the_last_revision_that_had_its_node_unless_the_newest_has_it(contents, listed):
    newest_first = [(no, content(*nodes, listed=listed)) for no, nodes in enumerate(contents, 1)][::-1]
    had = [no for no, nodes in enumerate(contents, 1) if "ha_pg_4" in map(slot_name, nodes)]

    left = left_by("ha_pg_4", "db", newest_first)

    if not had or had[-1] == len(contents):
        assert left is None
    else:
        assert left is not None
        assert (slot_name(left[0]), left[1]) == ("ha_pg_4", had[-1] + 1)
    assert left_by("ha_pg_4", "web", newest_first) is None
