"""A failover whose proof is none: what was seen while the primary lived refuses it, until it is over."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ha_tasks.errors import ServiceUnreachable
from ha_tasks.model.cluster import ClusterState, Unfinished, sync_set_of
from ha_tasks.model.guards import Guard, refusal
from ha_tasks.model.incident import IncidentKind
from ha_tasks.model.platform import DataPolicy
from ha_tasks.workflows.guard_facts import GuardFactsGatherer, Said
from tests.plans import plan_of
from tests.unit.builders import database, platform
from tests.unit.test_postgres_failover import World as FailoverWorld
from tests.unit.test_postgres_failover import reconciler
from tests.unit.test_replication_watch import LSN, World
from tests.unit.test_sync_set import edits_of

NAMES = "synchronous_standby_names"
BOTH = sync_set_of(["pg2", "pg3"])


def anybody(world):
    world.primary.settings[NAMES] = "*"


def another_set(world):
    world.primary.settings[NAMES] = "ANY 1 (elsewhere, pg2, pg3)"


def nobody(world):
    world.primary.settings[NAMES] = ""


def fewer_acknowledge(world):
    world.set_recorded(sync_set_of(["pg2", "pg3", "pg4"]))
    world.primary.settings[NAMES] = "ANY 1 (pg2, pg3, pg4)"


def two_take_writes(world):
    world.nodes["pg3"].primary = True
    world.nodes["pg3"].said = {"in_recovery": False, "receiver": None}


def of_another_system(world):
    world.nodes["pg3"].said = {"system_identifier": "7999999999999999999"}


DOUBTS = {
    anybody: "whoever connects confirms commits",
    another_set: "'ANY 1 (elsewhere, pg2, pg3)', and recorded is 'ANY 1 (pg2, pg3)'",
    nobody: "synchronous_standby_names = ''",
    fewer_acknowledge: "recorded is 'ANY 2 (pg2, pg3, pg4)'",
    two_take_writes: "pg1 and pg3 take writes",
    of_another_system: "pg3: is of another cluster",
}
every_doubt = pytest.mark.parametrize("wrong", DOUBTS, ids=lambda wrong: wrong.__name__)


class Watched(World):
    """The world of the watch, with the guard that judges a failover."""

    def __init__(self):
        super().__init__()
        self.platform = platform(database())

    def set_recorded(self, *sets):
        now = self.clock.now()
        self.store.clusters.advance("db", self.epoch, now, new_epoch=True, sets=sets)

    @property
    def epoch(self):
        return self.store.clusters.get("db").epoch

    def mend(self):
        self.primary.settings[NAMES] = self.store.clusters.get("db").sets[-1].setting()
        for node in self.nodes.values():
            node.said = {}
        self.nodes["pg3"].primary = False

    def refused(self, kind=IncidentKind.PRIMARY_DOWN, accepted=None):
        """What the guard about data says when pg1 has just died."""
        incident, _ = self.store.incidents.open(
            key=f"db/{kind}",
            service="db",
            instance="pg1",
            kind=kind,
            severity="critical",
            summary="pg1 is down",
            fault_at=self.clock.now(),
            now=self.clock.now(),
            actor="h/test",
            evidence={},
        )
        gatherer = GuardFactsGatherer(platform=self.platform, sources=self.store, clock=self.clock)
        said = Said(accepted_bytes=accepted)
        facts = gatherer.gather(incident, plan_of(), blind=False, verdicts=(), said=said)
        others = set(Guard) - {Guard.DATA_LOSS}
        return refusal(facts, others)


@every_doubt
def test_each_of_them_refuses_a_failover_and_says_which_and_how_to_go_on(wrong):
    world = Watched()
    wrong(world)
    world.looks(10)

    no = world.refused()

    assert no is not None
    assert not no.approvable
    assert DOUBTS[wrong] in no.detail
    assert "--accept-data-loss=BYTES" in no.detail
    assert "docs/runbooks/data-at-risk.md" in no.detail


@every_doubt
def test_a_look_after_the_death_of_the_primary_takes_nothing_back(wrong):
    world = Watched()
    wrong(world)
    world.looks(10)
    world.primary.reachable = False
    world.looks(10, 600)

    no = world.refused()
    assert no is not None
    assert "how much would be lost is not known: pg" in no.detail


@every_doubt
def test_what_a_later_look_does_not_find_any_more_is_over(wrong):
    world = Watched()
    wrong(world)
    world.looks(10)
    world.mend()
    world.primary.standbys = {"pg2": LSN, "pg3": LSN, "pg4": LSN}
    world.looks(10)

    assert world.refused() is None


def test_a_picture_without_doubt_lets_a_failover_pass_and_so_does_none_at_all():
    world = Watched()
    unseen = world.refused()
    world.looks(10)

    assert (unseen, world.refused()) == (None, None)


def test_a_set_that_is_right_again_proves_nothing_before_its_quorum_has_what_was_committed():
    world = Watched()
    anybody(world)
    world.looks(10)
    world.mend()
    world.primary.flush_lsn = LSN + 500
    world.looks(10)
    behind = world.refused()
    world.primary.flush_lsn, world.primary.standbys["pg3"] = LSN + 900, LSN + 500
    world.looks(10)

    assert behind is not None
    assert world.refused() is None


def test_of_a_member_of_another_system_that_is_silent_nothing_is_over():
    world = Watched()
    of_another_system(world)
    world.looks(10)
    world.mend()
    world.nodes["pg3"].reachable = False
    world.looks(10)

    assert world.refused() is not None


def test_a_change_of_the_set_under_way_is_no_difference():
    world = Watched()
    world.set_recorded(BOTH, sync_set_of(["pg2"]))
    for text in (BOTH.setting(), "ANY 1 (pg2)"):
        world.primary.settings[NAMES] = text
        world.looks(10)

        assert world.refused() is None


def test_a_set_that_is_changed_while_it_is_looked_at_is_no_difference():
    world = Watched()
    alone = sync_set_of(["pg2"])
    control = world.control
    read, changed = control.reading, []

    def then_the_change_ends(service, node):
        if node.name == "pg1" and not changed:
            changed.append(True)
            world.set_recorded(alone)
            world.primary.settings[NAMES] = alone.setting()
        return read(service, node)

    control.reading = then_the_change_ends
    world.looks(10)

    assert world.refused() is None


def test_where_the_record_itself_proves_nothing_there_is_nothing_to_doubt():
    """Policy availability with nobody left: the possible loss is measured, as ever."""
    world = Watched()
    world.set_recorded(sync_set_of([]))
    another_set(world)
    world.looks(10)

    assert world.refused() is None


def test_our_own_candidate_is_no_second_primary():
    world = Watched()
    entry = Unfinished(epoch=2, candidate="pg3", sync_set=sync_set_of(["pg2"]), timeline=1)
    now, failing = world.clock.now(), ClusterState.FAILING
    world.store.clusters.advance("db", 1, now, new_epoch=True, state=failing, unfinished=[entry])
    two_take_writes(world)
    world.looks(10)

    assert world.refused() is None


def test_what_was_seen_at_another_recorded_primary_is_past():
    world = Watched()
    anybody(world)
    world.looks(10)
    world.store.clusters.advance("db", 1, world.clock.now(), new_epoch=True, primary="pg2")

    assert world.refused() is None


def test_who_accepts_a_loss_is_asked_only_how_much():
    world = Watched()
    anybody(world)
    world.looks(10)

    assert "no position of the primary" in world.refused(accepted=4096).detail


def test_it_speaks_only_of_a_primary():
    world = Watched()
    anybody(world)
    world.looks(10)

    assert world.refused(kind=IncidentKind.STANDBY_DOWN) is None


@pytest.mark.parametrize("policy", DataPolicy)
def test_it_is_refused_by_either_policy(policy):
    world = Watched()
    service = database()
    world.platform = platform(replace(service, postgres=replace(service.postgres, policy=policy)))
    anybody(world)
    world.looks(10)

    assert world.refused() is not None


def test_a_set_that_was_put_back_is_doubted_until_it_has_what_was_committed():
    world = FailoverWorld()
    world.toy.nodes["pg1"].sync_setting = "ANY 1 (elsewhere)"
    told = []
    reconciler(world, look=lambda service, put_back: told.append((service.name, put_back))).clusters()
    reconciler(world, look=lambda *_: told.append("again")).clusters()

    assert told == [("db", "pg1"), ("db", None)]


def test_an_edit_between_two_looks_is_a_doubt_by_the_word_of_who_put_it_back():
    world = Watched()
    world.primary.flush_lsn = LSN + 500
    world.watch.look(world.service, "pg1")
    doubted = world.refused()
    world.primary.standbys = {"pg2": LSN + 500, "pg3": LSN}
    world.watch.look(world.service)

    assert "pg1: its synchronous set was edited by hand" in doubted.detail
    assert world.refused() is None


def test_a_primary_that_dies_before_the_set_is_put_back_leaves_the_doubt():
    world = FailoverWorld()
    world.toy.nodes["pg1"].sync_setting = "ANY 1 (elsewhere)"

    def dies(service, primary, names):
        raise ServiceUnreachable("pg1 does not answer")

    world.toy.end_walsenders = dies
    told = []
    reconciler(world, look=lambda service, put_back: told.append(put_back)).clusters()

    assert told == ["pg1"]
    assert edits_of(world) == 0
