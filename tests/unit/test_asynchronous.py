"""A standby with ``sync = false``: no commit waits for it, and nobody but a person has it promoted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ha_tasks.model.cluster import ClusterState, sync_set_of
from ha_tasks.model.incident import IncidentKind, IncidentState
from ha_tasks.model.platform import Instance, Role
from ha_tasks.model.playbook import Acceptance
from ha_tasks.model.probe import Target
from ha_tasks.model.run import RunState
from ha_tasks.model.verdict import Verdict, VerdictState
from ha_tasks.workflows.adoption import Adopter
from tests.fakes.toy_cluster import ToyNode
from tests.unit.builders import database
from tests.unit.test_postgres_failover import World
from tests.unit.test_sync_set import of_kind, watched

FAR = Instance(
    name="pg4", service="db", host="pg4", address="127.0.0.1:5434", role=Role.NODE, synchronous=False
)
NEAR = sync_set_of(["pg2", "pg3"])


def with_far(*, priority=0):
    """The usual three, and pg4 in another region, at the same position."""
    service = database()
    world = World(replace(service, instances=(*service.instances, replace(FAR, priority=priority))))
    world.toy.nodes["pg4"] = ToyNode("pg4", upstream="pg1")
    return world


def preferring(name):
    service = database()
    instances = tuple(replace(i, priority=int(i.name == name)) for i in service.instances)
    return World(replace(service, instances=instances))


def test_of_two_with_the_same_data_the_higher_priority_is_promoted():
    world = preferring("pg3")
    world.kill("pg1", agent=True)

    assert world.recover().state is RunState.SUCCEEDED
    assert world.cluster.primary == "pg3"


def test_priority_does_not_make_up_for_data():
    world = preferring("pg3")
    world.toy.nodes["pg3"].lsn -= 1
    world.kill("pg1", agent=True)

    assert world.recover().state is RunState.SUCCEEDED
    assert world.cluster.primary == "pg2"


def test_a_failover_neither_asks_nor_promotes_it_and_its_commits_do_not_wait_for_it():
    world = with_far(priority=1000)
    world.toy.nodes["pg4"].lsn += 500
    world.kill("pg1", agent=True)

    run = world.recover()

    assert run.state is RunState.SUCCEEDED, run.error
    assert world.cluster.primary == "pg2"
    assert world.cluster.sets == (sync_set_of(["pg3"]),)
    assert world.toy.nodes["pg4"].log == []


def test_it_is_no_help_where_too_few_can_be_revoked():
    world = with_far()
    world.kill("pg1", agent=True)
    world.kill("pg3", agent=True)

    run = world.recover()

    assert run.state is RunState.ROLLED_BACK
    assert "R + W <= N" in run.error
    assert world.toy.nodes["pg4"].log == []


def lost_all_near():
    world = with_far()
    world.toy.nodes["pg4"].lsn -= 100
    for node in ("pg1", "pg2", "pg3"):
        world.kill(node, agent=True)
    return world


def test_with_the_loss_accepted_it_is_promoted_when_nobody_else_is_left():
    world = lost_all_near()

    run = world.recover(accepts=Acceptance(bytes=400, primary_at=1300, off=("pg1",)))

    assert run.state is RunState.SUCCEEDED, run.error
    assert run.outputs["revoke_standbys"]["possible_loss"]["bytes"] == 400
    assert world.cluster.primary == "pg4"
    assert [s.setting() for s in world.cluster.sets] == [""]


def test_what_would_be_lost_by_it_is_said_and_nothing_is_promoted():
    world = lost_all_near()

    run = world.recover(accepts=Acceptance(bytes=399, primary_at=1300, off=("pg1",)))

    assert run.state is RunState.ROLLED_BACK
    assert "pg4 is at 0/384; accepted are 399" in run.error
    assert "promoted" not in world.toy.nodes["pg4"].log
    assert world.toy.nodes["pg4"].upstream == "pg1"


def test_one_that_takes_writes_by_itself_is_named_and_nothing_is_promoted_beside_it():
    world = with_far()
    world.toy.nodes["pg4"].primary = True
    world.kill("pg1", agent=True)
    world.kill("pg3", agent=True)

    run = world.recover(accepts=Acceptance(bytes=300, primary_at=1300, off=("pg1",)))

    assert run.state is RunState.ROLLED_BACK
    assert "pg4 would be a second primary" in run.error
    assert world.cluster.primary == "pg1"


def test_a_person_too_gets_the_one_nearby_where_both_have_the_same():
    world = with_far(priority=1000)
    world.kill("pg1", agent=True)
    world.kill("pg3", agent=True)

    run = world.recover(accepts=Acceptance(bytes=300, primary_at=1300, off=("pg1",)))

    assert run.state is RunState.SUCCEEDED, run.error
    assert world.cluster.primary == "pg2"
    assert [s.setting() for s in world.cluster.sets] == [""]


def test_it_is_rejoined_without_coming_into_the_set():
    world = with_far()
    world.kill("pg1", agent=True)
    world.recover()
    before = world.cluster

    run = world.recover("pg4", IncidentKind.STANDBY_DOWN)

    assert run.state is RunState.SUCCEEDED, run.error
    assert world.toy.nodes["pg4"].upstream == "pg2"
    assert world.cluster == before
    assert world.haproxy.states("pg_read")["pg4"] == "ready"


def test_adoption_leaves_it_out_of_the_set_and_has_it_serve_reads():
    world = with_far()
    world.store.clusters.clusters.clear()
    adopter = Adopter(tools=world.tools, journal=world.store.journal)

    cluster = adopter.adopt(world.service, adopter.look(world.service))

    assert cluster.sets == (NEAR,)
    assert world.haproxy.states("pg_read") == {"pg1": "maint", "pg2": "ready", "pg3": "ready", "pg4": "ready"}


@pytest.mark.parametrize("left", [True, False])
def test_a_member_that_became_asynchronous_leaves_the_set_although_it_receives(left):
    world = with_far()
    members = ["pg2", "pg3", "pg4"] if left else ["pg4"]
    world.store.clusters.advance("db", 1, world.clock.now(), new_epoch=False, sets=[sync_set_of(members)])

    run = world.recover("pg4", IncidentKind.SYNC_MEMBER_SILENT)

    assert (run.state is RunState.SUCCEEDED) is left, run.error
    assert world.cluster.sets == ((NEAR,) if left else (sync_set_of(["pg4"]),))


# What the detector makes of it.


def seen(feeds):
    """The detector's world, with pg4 in it; the primary feeds those."""
    service = database()
    world = watched(feeds, replace(service, instances=(*service.instances, FAR)))
    world.health.facts["pg4"] = {"in_recovery": True, "receiving": True, "agent": {"postmaster": "running"}}
    return world


def about_pg4(world):
    return [i for i in world.incidents if i.instance == "pg4"]


def test_one_that_follows_is_well_although_it_is_in_no_set():
    world = seen(["pg2", "pg3", "pg4"])
    world.rounds(30)

    assert world.incidents == ()


def test_one_that_the_primary_does_not_feed_is_rejoined():
    """It still follows the old primary, for instance, and answers all the while."""
    world = seen(["pg2", "pg3"])
    world.rounds(19)
    assert about_pg4(world) == []

    world.rounds(4)

    (incident,) = about_pg4(world)
    assert (incident.kind, incident.state) == (IncidentKind.STANDBY_DOWN, IncidentState.RECOVERING)
    assert "answers, and receives nothing from the primary" in incident.summary
    assert world.store.journal.recent()[0].plan.playbook == "postgres-rejoin"


def test_a_member_that_must_be_none_is_taken_out_at_once():
    world = seen(["pg2", "pg3", "pg4"])
    members = sync_set_of(["pg2", "pg3", "pg4"])
    world.store.clusters.advance("db", 1, world.clock.now(), new_epoch=False, sets=[members])
    world.rounds(2)

    (incident,) = of_kind(world)
    assert (incident.instance, incident.severity) == ("pg4", "warning")
    assert "sync = false" in incident.summary
    assert world.store.journal.recent()[0].plan.playbook == "postgres-narrow-set"


def test_while_a_failover_is_under_way_it_is_left_alone():
    world = seen([])
    world.store.clusters.advance("db", 1, world.clock.now(), new_epoch=True, state=ClusterState.FAILING)
    world.rounds(24)

    assert about_pg4(world) == []


def test_redundancy_is_back_without_it():
    """What a failover has mitigated is resolved once everybody is well who commits may wait for."""
    world = seen(["pg2", "pg3", "pg4"])
    opened, _ = world.detection._held_by(
        Verdict(target=Target(service="db", instance="pg1"), state=VerdictState.FAILED, evidence="gone"),
        IncidentKind.PRIMARY_DOWN,
        "critical",
    )
    for state in (IncidentState.RECOVERING, IncidentState.VERIFYING, IncidentState.MITIGATED):
        world.store.incidents.move(opened.id, state, world.clock.now(), "t", "for the test")

    world.rounds(2)

    assert world.store.incidents.get(opened.id).state is IncidentState.RESOLVED
