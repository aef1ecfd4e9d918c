"""Each guard with the facts of a world: what is refused, where that is written down, and how it ends."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ha_tasks.errors import NotSafe, VerificationFailed
from ha_tasks.model.balancer import ServerState
from ha_tasks.model.cluster import Cluster, ClusterState, SyncSet, sync_set_of
from ha_tasks.model.guards import Guard
from ha_tasks.model.incident import IncidentKind, IncidentState
from ha_tasks.model.maintenance import weekly
from ha_tasks.model.platform import DataPolicy, Policies
from ha_tasks.model.run import RunState
from ha_tasks.ports.maintenance import NewWindow
from tests.unit.builders import database, web
from tests.unit.guarded_world import GuardedWorld
from tests.unit.test_detection import OK, REFUSED


def stopped():
    world = GuardedWorld(web())
    world.store.limits.set_switch("stop", True, "anna", "hands off", world.clock.now())
    return world


def stopped_for_this_service():
    world = GuardedWorld(web())
    world.store.limits.set_switch("stop", True, "anna", "", world.clock.now(), scope="web")
    return world


def observing():
    world = GuardedWorld(web())
    world.store.limits.set_switch("observe", True, "ben", "", world.clock.now(), scope="web")
    return world


def in_maintenance():
    world = GuardedWorld(web())
    # The clock of this world begins on a Thursday at noon.
    rule = weekly("thu 13:00-13:30", "Europe/Berlin")
    world.store.maintenance.add(NewWindow(scope="web", actor="anna", reason="", rule=rule), world.clock.now())
    return world


def too_wide():
    return GuardedWorld(web(), max_targets=0)


def under_another_run():
    world = GuardedWorld(web())
    world.health.kinds["web2"] = REFUSED
    world.rounds(3)
    return world


def cooling():
    world = GuardedWorld(web())
    world.store.limits.cool("web", "http-instance", world.clock.now() + timedelta(seconds=90))
    return world


def beside_a_running_one():
    world = GuardedWorld(web(), database(), policies=Policies(max_concurrent_runs=1))
    world.cluster()
    world.health.kinds["pg1"] = REFUSED
    world.rounds(3)
    return world


def after_too_many():
    world = beside_a_running_one()
    world.policies = Policies(max_runs_per_hour=1)
    world.detection = world.observer("h/test")
    return world


def with_none_left():
    world = GuardedWorld(web())
    world.health.kinds |= {"web2": REFUSED, "web3": REFUSED}
    return world


def with_another_still_out():
    world = GuardedWorld(web())
    world.store.wanted.want({("web", "web2"): ServerState.MAINT}, "it failed for good", world.clock.now())
    return world


def half_recovered():
    world = GuardedWorld(web(), cooldown_s=0.0)
    world.actions["take_out"].fail = [NotSafe("no")]
    world.health.kinds["web2"] = REFUSED
    world.rounds(3)
    run = world.runs[0]
    failed = replace(run, state=RunState.COMPENSATION_FAILED, ended_at=world.clock.now())
    world.store.journal.entries[run.id].run = failed
    world.follower.follow(failed)
    world.health.kinds["web2"] = OK
    return world


@pytest.mark.parametrize(
    ("make", "guard", "says"),
    [
        (stopped, Guard.STOP_SWITCH, "by anna (hands off); let it act again: ha-tasks switch on"),
        (
            stopped_for_this_service,
            Guard.STOP_SWITCH,
            "for web, by anna; let it act again: ha-tasks switch on web",
        ),
        (observing, Guard.OBSERVE_ONLY, "nothing is changed for web, by ben"),
        (
            in_maintenance,
            Guard.MAINTENANCE,
            "maintenance until 12:30:00 UTC; end it: ha-tasks maintenance end 1",
        ),
        (too_wide, Guard.TARGETS, "1 targets, at most 0 allowed"),
        (under_another_run, Guard.ACTIVE_LEASE, "run 1 is active on web"),
        (cooling, Guard.COOL_DOWN, "end it with: ha-tasks ack web"),
        (beside_a_running_one, Guard.CONCURRENT, "1 recoveries are running"),
        (after_too_many, Guard.GLOBAL_RATE, "1 recoveries within the last hour"),
        (with_none_left, Guard.BLAST_RADIUS, "only 0 other healthy instances, 1 needed"),
        (with_another_still_out, Guard.BLAST_RADIUS, "web2 of web is still out, at most 1 of 3 at a time"),
        (half_recovered, Guard.FROZEN, "left it half recovered; when mended: ha-tasks ack I-1"),
    ],
    ids=lambda given: getattr(given, "__name__", None),
)
def test_what_a_guard_refuses_is_a_row_a_number_and_a_line_of_the_story(make, guard, says):
    world = make()
    before = world.refused(guard)
    world.health.kinds["web1"] = REFUSED
    runs = len(world.runs)
    world.rounds(6)

    incident = next(i for i in world.incidents if i.instance == "web1")
    assert incident.state is IncidentState.BLOCKED
    assert len(world.runs) == runs
    assert world.store.limits.refusals[incident.id, guard] > 1
    others = [
        i for i in world.incidents if i.service == "web" and (i.id, guard) in world.store.limits.refusals
    ]
    assert world.refused(guard) - before == len(others)
    told = [text for text in world.story(incident) if f"refused by {guard}" in text]
    assert len(told) == 1
    assert says in told[0]


@pytest.mark.parametrize(
    ("make", "end"),
    [
        (stopped, lambda w: w.store.limits.set_switch("stop", False, "anna", "", w.clock.now())),
        (
            stopped_for_this_service,
            lambda w: w.store.limits.set_switch("stop", False, "anna", "", w.clock.now(), scope="web"),
        ),
        (in_maintenance, lambda w: w.store.maintenance.end(1, w.clock.now(), "anna")),
        (in_maintenance, lambda w: w.clock.advance(1800)),
        (cooling, lambda w: w.store.limits.acknowledge("web", w.clock.now(), "anna")),
        (cooling, lambda w: w.clock.advance(90)),
        (
            with_another_still_out,
            lambda w: w.store.wanted.want({("web", "web2"): ServerState.READY}, "mended", w.clock.now()),
        ),
    ],
)
def test_what_a_guard_refused_is_recovered_once_the_reason_is_gone(make, end):
    world = make()
    world.health.kinds["web1"] = REFUSED
    world.rounds(4)
    end(world)
    world.rounds(4)

    assert world.of("web").state is IncidentState.RECOVERING


def test_a_switch_of_another_service_is_in_nobodys_way():
    world = GuardedWorld(web())
    for name in ("stop", "observe"):
        world.store.limits.set_switch(name, True, "anna", "", world.clock.now(), scope="db")
    world.store.maintenance.add(
        NewWindow(scope="db", actor="anna", reason="", rule=weekly("daily 00:00-24:00", "UTC")),
        world.clock.now(),
    )
    world.health.kinds["web1"] = REFUSED
    world.rounds(4)

    assert world.of("web").state is IncidentState.RECOVERING


def test_the_stop_switch_of_one_service_ends_its_run_between_two_steps():
    world = GuardedWorld(web())
    world.orchestrator._stopped = lambda name: world.store.limits.switch("stop", name) is not None
    world.health.kinds["web1"] = REFUSED
    world.rounds(3)
    world.orchestrator.advance(1, 1, "do")
    world.store.limits.set_switch("stop", True, "anna", "", world.clock.now(), scope="web")
    world.drive()

    assert world.runs[0].state is RunState.ABORTED
    assert world.log == ["do take_out"]


def test_with_too_few_vantages_what_is_already_open_is_refused_as_blind():
    world = stopped()
    world.health.kinds["web1"] = REFUSED
    world.rounds(3)
    world.store.limits.set_switch("stop", False, "anna", "", world.clock.now())
    world.health.vantages = ("h1/a",)
    world.clock.advance(20)
    world.rounds(2)

    assert world.refused(Guard.BLIND) == 1
    assert world.runs == ()
    assert "refused by blind: too few fresh vantages to judge" in world.story(world.of("web"))


def test_a_primary_that_was_just_promoted_is_left_alone_and_a_person_need_not_wait():
    world = GuardedWorld(database(), cooldown_s=0.0)
    world.cluster()
    world.health.kinds["pg1"] = REFUSED
    world.rounds(3)
    world.drive()
    world.store.clusters.advance(
        "db", 1, world.clock.now(), new_epoch=True, primary="pg2", sets=[sync_set_of(["pg3"])]
    )
    world.health.facts["pg3"] = {"in_recovery": True, "receiving": False, "agent": None}
    world.health.kinds["pg2"] = REFUSED
    world.rounds(4)

    incident = next(i for i in world.incidents if i.instance == "pg2")
    assert incident.kind is IncidentKind.PRIMARY_DOWN
    assert incident.state is IncidentState.BLOCKED
    assert world.refused(Guard.JUST_PROMOTED) == 1

    answer = world.order(incident)
    assert answer.new
    assert world.store.incidents.get(incident.id).state is IncidentState.RECOVERING


def test_a_primary_that_was_promoted_a_while_ago_is_failed_over_again():
    world = GuardedWorld(database(), cooldown_s=0.0, policies=Policies(just_promoted_s=2.0))
    world.cluster()
    world.health.kinds["pg1"] = REFUSED
    world.rounds(3)
    world.drive()
    world.store.clusters.advance(
        "db", 1, world.clock.now(), new_epoch=True, primary="pg2", sets=[sync_set_of(["pg3"])]
    )
    world.health.facts["pg3"] = {"in_recovery": True, "receiving": False, "agent": None}
    world.health.kinds["pg2"] = REFUSED
    world.rounds(6)

    assert next(i for i in world.incidents if i.instance == "pg2").state is IncidentState.RECOVERING


def test_each_relapse_makes_the_cool_down_longer_until_a_person_has_seen_it():
    world = GuardedWorld(web())
    lengths = []
    for relapse in range(4):
        if relapse == 3:
            world.store.limits.acknowledge("web", world.clock.now(), "anna")
        world.health.kinds["web1"] = REFUSED
        world.rounds(3)
        cool = world.store.limits.cooldown("web", "http-instance")
        if cool is not None and not cool.acknowledged:
            world.clock.advance((cool.until - world.clock.now()).total_seconds())
            world.rounds(3)
        world.health.kinds["web1"] = OK
        world.drive()
        lengths.append(world.store.limits.cooldown("web", "http-instance").length_s)

    assert lengths == [60, 120, 240, 60]


def dependent():
    world = GuardedWorld(replace(web(), depends_on=("db",)), database(), cooldown_s=0.0)
    world.cluster()
    for node in ("pg2", "pg3"):
        world.health.facts[node] = {"in_recovery": True, "receiving": False, "agent": None}
    return world


def test_what_depends_on_a_dead_database_becomes_a_child_of_its_incident():
    world = dependent()
    world.store.limits.set_switch("stop", True, "anna", "", world.clock.now(), scope="db")
    world.health.kinds |= {"pg1": REFUSED, "web1": REFUSED}
    world.rounds(6)

    child, parent = world.of("web"), world.of("db")
    assert (child.state, child.parent) == (IncidentState.SUPPRESSED, parent.id)
    assert world.refused(Guard.UPSTREAM_FIRST) == 1
    assert world.story(parent).count(f"I-{child.id} (web1 of web) waits for this") == 1
    assert f"it depends on db (I-{parent.id}), which must be recovered first" in world.story(child)[-1]


def test_a_child_is_looked_at_again_once_its_parent_is_over():
    world = dependent()
    world.store.limits.set_switch("stop", True, "anna", "", world.clock.now(), scope="db")
    world.health.kinds |= {"pg1": REFUSED, "web1": REFUSED}
    world.rounds(4)
    world.health.kinds["pg1"] = OK
    for node in ("pg2", "pg3"):
        world.health.facts[node] = {"in_recovery": True, "receiving": True, "agent": None}
    world.rounds(4)

    assert world.of("db").state is IncidentState.RESOLVED
    assert world.of("web").state is IncidentState.RECOVERING


def test_a_child_that_mends_itself_with_its_parent_is_over_with_it():
    world = dependent()
    world.store.limits.set_switch("stop", True, "anna", "", world.clock.now(), scope="db")
    world.health.kinds |= {"pg1": REFUSED, "web1": REFUSED}
    world.rounds(4)
    world.health.kinds["web1"] = OK
    world.rounds(17)

    assert world.of("web").state is IncidentState.RESOLVED
    assert world.runs == ()


def test_a_service_depends_on_an_http_service_only_when_all_of_that_is_down():
    front = replace(
        web(),
        name="front",
        depends_on=("web",),
        instances=tuple(
            replace(i, name=i.name.replace("web", "front"), service="front") for i in web().instances
        ),
        routing=replace(web().routing, backend="front"),
    )
    world = GuardedWorld(front, web(), min_healthy=0, policies=Policies(max_concurrent_runs=9))
    world.store.limits.set_switch("stop", True, "anna", "", world.clock.now(), scope="web")
    world.health.kinds |= {"front1": REFUSED, "web1": REFUSED}
    world.rounds(4)
    assert world.of("front").state is IncidentState.RECOVERING

    other = GuardedWorld(front, web(), min_healthy=0)
    other.store.limits.set_switch("stop", True, "anna", "", other.clock.now(), scope="web")
    other.health.kinds |= {"front1": REFUSED, "web1": REFUSED, "web2": REFUSED}
    other.rounds(1)
    other.rounds(4)
    assert other.of("front").state is IncidentState.SUPPRESSED


def asynchronous(policy=DataPolicy.AVAILABILITY, **more):
    """A cluster of which no commit waits for anybody; pg2 is 500 bytes behind when pg1 dies."""
    service = replace(database(), postgres=replace(database().postgres, policy=policy), **more)
    world = GuardedWorld(service)
    world.store.clusters.register(
        Cluster(
            name="db",
            epoch=1,
            primary="pg1",
            state=ClusterState.STEADY,
            sets=(SyncSet(quorum=0, members=()),),
        ),
        world.clock.now(),
    )
    world.health.facts["pg1"] = {"in_recovery": False, "lsn": 2000, "agent": None}
    for node in ("pg2", "pg3"):
        world.health.facts[node] = {"in_recovery": True, "receiving": True, "lsn": 1500, "agent": None}
    world.rounds(4)
    world.health.kinds["pg1"] = REFUSED
    world.health.facts["pg1"] = {"agent": None}
    for node in ("pg2", "pg3"):
        world.health.facts[node] = {"in_recovery": True, "receiving": False, "lsn": 1500, "agent": None}
    world.rounds(4)
    return world


def primary_incident(world):
    return next(i for i in world.incidents if i.kind is IncidentKind.PRIMARY_DOWN)


def test_a_failover_that_may_lose_more_than_the_rpo_waits_for_a_person():
    world = asynchronous(rpo_s=0.5)

    incident = primary_incident(world)
    assert incident.state is IncidentState.AWAITING_APPROVAL
    assert world.runs[0].state is RunState.AWAITING_APPROVAL
    assert world.broker.messages == []
    assert world.refused(Guard.DATA_LOSS) == 1
    assert "500 bytes (2.0 s) may be lost, the RPO is 0.5 s" in world.story(incident)[-1]


def test_a_failover_within_the_rpo_asks_nobody():
    assert primary_incident(asynchronous(rpo_s=30.0)).state is IncidentState.RECOVERING


def test_policy_durability_never_asks_whether_data_may_be_lost():
    """There the protocol itself refuses what is not safe."""
    assert primary_incident(asynchronous(DataPolicy.DURABILITY)).state is IncidentState.RECOVERING


def test_a_loss_that_nobody_can_tell_is_refused_and_cannot_be_approved():
    world = asynchronous(rpo_s=0.5)
    incident = primary_incident(world)
    world.approver.reject(world.runs[0], "anna", "look first")
    world.store.incidents.acknowledge(incident.id, world.clock.now(), "anna")
    world.store.observations.outcomes = []
    world.rounds(4)

    again = primary_incident(world)
    assert again.id != incident.id
    assert again.state is IncidentState.BLOCKED
    assert any("how much would be lost is not known" in text for text in world.story(again))


def test_a_person_passes_maintenance_and_cool_down_and_is_written_down():
    world = in_maintenance()
    world.store.limits.cool("web", "http-instance", world.clock.now() + timedelta(seconds=90))
    world.health.kinds["web1"] = REFUSED
    world.rounds(3)
    answer = world.order(world.of("web"))

    assert answer.new
    assert (answer.run.mode, answer.run.requested_by) == ("manual", "anna@ops")
    assert world.of("web").state is IncidentState.RECOVERING


@pytest.mark.parametrize(
    "make", [stopped, observing, under_another_run, with_none_left, with_another_still_out]
)
def test_a_person_never_passes_a_switch_a_lease_or_the_blast_radius(make):
    world = make()
    world.health.kinds["web1"] = REFUSED
    world.rounds(3)
    incident = next(i for i in world.incidents if i.instance == "web1")
    answer = world.order(incident)

    assert answer.refused is not None
    assert answer.run is None


def test_a_run_that_nobody_takes_up_before_its_deadline_is_called_off():
    world = stopped()
    world.health.kinds["web1"] = REFUSED
    world.rounds(3)
    world.store.limits.set_switch("stop", False, "anna", "", world.clock.now())
    run = world.order(world.of("web"), deadline=world.clock.now() + timedelta(seconds=5)).run

    assert world.approver.expire() == ()
    world.clock.advance(5)
    assert [ended.id for ended in world.approver.expire()] == [run.id]
    ended = world.store.journal.get(run.id)
    assert ended.state is RunState.ABORTED
    assert ended.error == "its deadline (2026-01-01 12:00:06 UTC) passed before it was begun"
    assert world.of("web").state is IncidentState.OPEN
    assert world.log == []


def test_an_executor_that_comes_after_the_deadline_begins_nothing():
    world = stopped()
    world.health.kinds["web1"] = REFUSED
    world.rounds(3)
    world.store.limits.set_switch("stop", False, "anna", "", world.clock.now())
    run = world.order(world.of("web"), deadline=world.clock.now() + timedelta(seconds=5)).run
    world.clock.advance(5)
    world.drive()

    ended = world.store.journal.get(run.id)
    assert ended.state is RunState.ABORTED
    assert "passed before it was begun" in ended.error
    assert world.log == []


def test_a_run_that_was_begun_in_time_is_not_ended_by_its_deadline():
    world = stopped()
    world.health.kinds["web1"] = REFUSED
    world.rounds(3)
    world.store.limits.set_switch("stop", False, "anna", "", world.clock.now())
    run = world.order(world.of("web"), deadline=world.clock.now() + timedelta(seconds=5)).run
    world.orchestrator.advance(run.id, 1, "do")
    world.clock.advance(60)
    assert world.approver.expire() == ()
    world.health.kinds["web1"] = OK
    world.drive()

    assert world.store.journal.get(run.id).state is RunState.SUCCEEDED


def test_a_verification_that_failed_is_told_as_ever():
    """A guard's new states do not change how a run ends that nobody had to approve."""
    world = GuardedWorld(web())
    world.actions["verify_service"].fail = [VerificationFailed("slow")]
    world.health.kinds["web1"] = REFUSED
    world.rounds(3)
    world.drive()

    assert world.of("web").state is IncidentState.ESCALATED
