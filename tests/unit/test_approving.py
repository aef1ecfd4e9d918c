"""Runs that wait for a person: nothing happens before the yes, and what runs is what was looked at."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ha_tasks.errors import Refused, UsageError
from ha_tasks.model.cluster import sync_set_of
from ha_tasks.model.guards import Guard
from ha_tasks.model.incident import IncidentKind, IncidentState
from ha_tasks.model.platform import Policies
from ha_tasks.model.playbook import Approval
from ha_tasks.model.run import RunState
from ha_tasks.names import Counter
from ha_tasks.workflows.approving import Consent
from tests.unit.builders import database, web
from tests.unit.guarded_world import GuardedWorld
from tests.unit.test_detection import OK, REFUSED
from tests.unit.test_guards_at_work import asynchronous

ANNA = Consent(by="anna@ops", reason="looked at it")


def waiting(**policies):
    """web1 is dead, and its recovery waits for a person."""
    world = GuardedWorld(web(), approval=Approval.ALWAYS, policies=Policies(**policies))
    world.health.kinds["web1"] = REFUSED
    world.rounds(4)
    return world


def approve(world, consent=ANNA, run=None):
    run = world.approver.waiting(run or world.runs[0].id)
    return world.approver.approve(run, consent, blind=False, verdicts=world.verdicts)


def recoveries(world):
    return sum(v for (name, _), v in world.store.ledger.counters.items() if name == Counter.RECOVERIES)


def test_a_run_that_needs_a_person_waits_and_says_how_one_says_yes():
    world = waiting()

    (run,), incident = world.runs, world.of("web")
    assert (run.state, incident.state, incident.run) == (
        RunState.AWAITING_APPROVAL,
        IncidentState.AWAITING_APPROVAL,
        run.id,
    )
    assert world.broker.messages == []
    assert recoveries(world) == 0
    assert world.refused(Guard.APPROVAL) == 1
    text = (
        "run 1 waits for a person until 13:00:01 UTC: http-instance runs only when a person has approved it"
    )
    assert world.story(incident)[-1].startswith(f"awaiting_approval: {text}")
    assert world.story(incident)[-1].endswith("; then: ha-tasks approve 1")


def test_it_is_asked_once_however_many_look():
    world = waiting()
    world.rounds(6, [world.observer("h1/a"), world.observer("h2/b")])

    assert len(world.runs) == 1
    assert world.refused(Guard.APPROVAL) == 1
    assert len([t for t in world.story(world.of("web")) if t.startswith("awaiting_approval")]) == 1


def test_an_approved_run_begins_and_its_story_names_the_person():
    world = waiting()
    run = approve(world)

    assert (run.state, run.approved_by) == (RunState.PENDING, "anna@ops")
    assert world.broker.messages[0].task == "ha.step.take_out"
    assert world.of("web").state is IncidentState.RECOVERING
    assert recoveries(world) == 1
    assert "recovering: run 1 started, approved by anna@ops: looked at it" in world.story(world.of("web"))

    world.health.kinds["web1"] = OK
    world.drive()
    assert world.of("web").state is IncidentState.RESOLVED


def test_of_two_persons_one_approves():
    world = waiting()
    run = world.approver.waiting(1)
    approve(world)

    with pytest.raises(Refused, match="run 1 does not wait any more"):
        world.approver.approve(run, replace(ANNA, by="ben"), blind=False, verdicts=world.verdicts)
    assert len(world.broker.messages) == 1


def test_a_rejected_run_ends_and_its_incident_is_a_persons():
    world = waiting()
    run = world.approver.reject(world.approver.waiting(1), "anna@ops", "the disk is full")

    assert (run.state, run.error) == (RunState.ABORTED, "rejected by anna@ops: the disk is full")
    incident = world.of("web")
    assert incident.state is IncidentState.ESCALATED
    assert "escalated: run 1 aborted: rejected by anna@ops: the disk is full" in world.story(incident)
    world.rounds(4)
    assert len(world.runs) == 1
    with pytest.raises(Refused, match="run 1 is aborted"):
        world.approver.waiting(1)


def test_nobody_is_asked_for_ever():
    world = waiting(approval_within_s=60.0)
    world.clock.advance(58)
    assert world.approver.expire() == ()
    world.clock.advance(1)

    (run,) = world.approver.expire()

    assert (run.state, run.error) == (RunState.ABORTED, "nobody approved it until 2026-01-01 12:01:01 UTC")
    assert world.of("web").state is IncidentState.ESCALATED
    assert world.store.ledger.counters.get((str(Counter.RECOVERY_FAILURES), "{}")) is None
    assert world.approver.expire() == ()


def test_who_comes_too_late_is_told_so_and_the_run_is_over():
    world = waiting(approval_within_s=60.0)
    world.clock.advance(60)

    with pytest.raises(Refused, match="run 1 is over: nobody approved it until"):
        world.approver.waiting(1)
    assert world.runs[0].state is RunState.ABORTED


def test_an_expired_run_whose_incident_was_not_told_is_followed_by_the_sweeper():
    world = waiting(approval_within_s=60.0)
    world.clock.advance(60)
    world.store.journal.call_off(1, "nobody approved it", world.clock.now(), "a sweeper that died then")
    assert world.of("web").state is IncidentState.AWAITING_APPROVAL

    world.follower.follow_all()

    assert world.of("web").state is IncidentState.ESCALATED


def test_an_approved_run_whose_incident_was_not_told_is_followed_by_the_sweeper():
    world = waiting()
    world.store.journal.approve(1, "anna@ops", world.clock.now())

    world.follower.follow_all()

    assert world.of("web").state is IncidentState.RECOVERING
    assert "recovering: run 1 started, anna@ops said yes" in world.story(world.of("web"))


def test_what_is_healthy_again_needs_no_approval():
    world = waiting()
    world.health.kinds["web1"] = OK
    world.rounds(17)

    assert world.of("web").state is IncidentState.RESOLVED
    assert (world.runs[0].state, world.runs[0].error) == (
        RunState.ABORTED,
        "healthy again before anybody approved it",
    )
    world.follower.follow_all()
    assert world.of("web").state is IncidentState.RESOLVED


def test_what_is_over_while_a_person_looks_is_not_begun():
    world = waiting()
    run = world.approver.waiting(1)
    world.store.incidents.move(1, IncidentState.RESOLVED, world.clock.now(), "h", "over")

    with pytest.raises(Refused, match="run 1 is not needed any more: I-1 is over"):
        world.approver.approve(run, ANNA, blind=False, verdicts=world.verdicts)
    assert world.runs[0].state is RunState.ABORTED


def test_the_guards_are_asked_again_and_the_run_goes_on_waiting():
    world = waiting()
    world.store.limits.set_switch("stop", True, "carl", "no", world.clock.now())

    with pytest.raises(Refused, match=r"refused by stop_switch: .* by carl .*; run 1 goes on waiting"):
        approve(world)

    world.store.limits.set_switch("stop", False, "carl", "yes", world.clock.now())
    assert approve(world).state is RunState.PENDING


def test_a_waiting_run_counts_neither_as_running_nor_against_itself():
    world = waiting(max_runs_per_hour=1, max_concurrent_runs=1)

    assert approve(world).state is RunState.PENDING


def test_a_waiting_run_leaves_room_for_those_that_act():
    world = GuardedWorld(
        web(), database(), approval=Approval.ALWAYS, policies=Policies(max_concurrent_runs=1)
    )
    world.cluster()
    world.health.kinds |= {"web1": REFUSED, "pg1": REFUSED}
    world.rounds(4)

    assert {r.plan.service for r in world.runs} == {"web", "db"}
    assert approve(world, run=1).state is RunState.PENDING


def test_a_plan_that_would_be_another_now_is_asked_about_again():
    world = waiting()
    changed = [replace(p, version=p.version + 1) if p.name == "http-instance" else p for p in world.playbooks]
    world.approver._planner._playbooks = tuple(changed)

    with pytest.raises(Refused) as refused:
        approve(world)

    assert "the situation has changed since run 1 was planned (version: 1 -> 2)" in str(refused.value)
    assert str(refused.value).endswith("ha-tasks approve 2")
    old, new = world.store.journal.get(1), world.store.journal.get(2)
    assert (old.state, new.state, new.plan.version) == (RunState.ABORTED, RunState.AWAITING_APPROVAL, 2)
    assert (world.of("web").state, world.of("web").run) == (IncidentState.AWAITING_APPROVAL, 2)
    world.follower.follow_all()
    assert world.of("web").state is IncidentState.AWAITING_APPROVAL
    assert approve(world, run=2).state is RunState.PENDING


def test_a_run_that_no_playbook_would_make_any_more_is_not_begun():
    world = waiting()
    world.approver._planner._playbooks = ()

    with pytest.raises(Refused, match="run 1 cannot be planned any more: no playbook is for instance_down"):
        approve(world)
    assert world.runs[0].state is RunState.AWAITING_APPROVAL


def test_with_four_eyes_nobody_approves_what_they_have_asked_for():
    world = GuardedWorld(web(), approval=Approval.ALWAYS, policies=Policies(four_eyes=True))
    world.store.limits.set_switch("stop", True, "x", "", world.clock.now())
    world.health.kinds["web1"] = REFUSED
    world.rounds(3)
    world.store.limits.set_switch("stop", False, "x", "", world.clock.now())
    world.order(world.of("web"))

    with pytest.raises(Refused, match="anna@ops has asked for run 1, so somebody else must approve it"):
        approve(world)
    assert approve(world, replace(ANNA, by="ben@ops")).approved_by == "ben@ops"


def test_a_loss_is_accepted_in_bytes_and_only_so_much():
    world = asynchronous(rpo_s=0.5)
    with pytest.raises(Refused, match=r"500 bytes .* may be lost.*--accept-data-loss=500"):
        approve(world)
    with pytest.raises(Refused, match="only 499 are accepted"):
        approve(world, replace(ANNA, accepted_bytes=499))

    run = approve(world, replace(ANNA, accepted_bytes=500))

    assert run.state is RunState.PENDING
    incident = world.store.incidents.get(run.incident)
    assert incident.state is IncidentState.RECOVERING
    assert "accepting the loss of 500 bytes" in world.story(incident)[-1]


def test_a_waiting_run_gives_way_to_the_failover_of_its_cluster_and_is_asked_about_again():
    world = GuardedWorld(database(), cooldown_s=0.0)
    world.cluster()
    for playbook in [p for p in world.playbooks if p.match.incident is IncidentKind.STANDBY_DOWN]:
        always = replace(playbook, guards=replace(playbook.guards, approval=Approval.ALWAYS))
        world.playbooks[world.playbooks.index(playbook)] = always
    world.detection = world.observer("h/test")
    world.health.kinds["pg3"] = REFUSED
    world.health.facts["pg3"] = {"agent": {"postmaster": "absent"}}
    world.rounds(12)
    standby = world.incidents[0]
    assert (standby.kind, standby.state) == (IncidentKind.STANDBY_DOWN, IncidentState.AWAITING_APPROVAL)

    world.health.facts["pg2"] = {"in_recovery": True, "receiving": False, "agent": {"postmaster": "running"}}
    world.health.kinds["pg1"] = REFUSED
    world.rounds(4)

    primary = next(i for i in world.incidents if i.kind is IncidentKind.PRIMARY_DOWN)
    assert primary.state is IncidentState.RECOVERING
    assert world.store.journal.get(1).error == f"gave way to the failover of I-{primary.id}"
    again = world.store.incidents.get(standby.id)
    assert again.state is IncidentState.BLOCKED
    assert "refused by active_lease: run 2 is active on db" in world.story(again)[-1]

    world.drive()
    world.store.clusters.advance(
        "db", 1, world.clock.now(), new_epoch=True, primary="pg2", sets=[sync_set_of(["pg3"])]
    )
    world.health.facts["pg2"] = {"agent": {"postmaster": "running"}}
    world.rounds(6)
    again = world.store.incidents.get(standby.id)
    assert again.state is IncidentState.AWAITING_APPROVAL
    assert again.run not in (None, 1)


def test_a_run_that_does_not_exist_cannot_be_approved():
    with pytest.raises(UsageError, match="there is no run 41"):
        waiting().approver.waiting(41)


def test_an_incident_that_was_not_told_of_its_waiting_run_joins_it():
    """The observer that wrote the run down died before it could move the incident."""
    world = GuardedWorld(web(), approval=Approval.ALWAYS)
    move, world.store.incidents.move = world.store.incidents.move, lambda *_, **__: None
    world.health.kinds["web1"] = REFUSED
    world.rounds(3)
    world.store.incidents.move = move
    assert world.of("web").state is IncidentState.OPEN
    world.rounds(1)

    assert (world.of("web").state, world.of("web").run) == (IncidentState.AWAITING_APPROVAL, 1)
    assert len(world.runs) == 1


def test_driving_a_waiting_run_ends_at_once():
    world = waiting()
    before = world.clock.now()

    assert world.orchestrator.drive(1, before + timedelta(seconds=60)).state is RunState.AWAITING_APPROVAL
    assert world.clock.now() == before
