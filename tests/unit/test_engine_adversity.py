"""What would hurt at 3 AM: runs that never end, runs that stand in the way, odd mistakes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import pytest

from ha_tasks.adapters.clock import SystemClock
from ha_tasks.adapters.lease_keeper import ThreadedLeaseKeeper
from ha_tasks.bootstrap.own_actions import OwnAction
from ha_tasks.errors import ActionFailed, HaTasksError, PassingFailure, Refused, StaleEpoch
from ha_tasks.model.action import Offer
from ha_tasks.model.balancer import ServerState
from ha_tasks.model.cluster import ClusterState
from ha_tasks.model.guards import Guard
from ha_tasks.model.incident import IncidentState
from ha_tasks.model.maintenance import Weekly
from ha_tasks.model.platform import Policies
from ha_tasks.model.playbook import Approval
from ha_tasks.model.run import RunState
from ha_tasks.ports.maintenance import NewWindow
from ha_tasks.ports.repositories import NewRun
from ha_tasks.workflows.waiting import wait_until
from tests.fakes.action import FakeAction
from tests.unit.builders import database, web
from tests.unit.guarded_world import GuardedWorld
from tests.unit.test_approving import ANNA, approve, waiting
from tests.unit.test_detection import REFUSED
from tests.unit.test_guards_at_work import stopped
from tests.unit.test_postgres_failover import World as Postgres
from tests.unit.test_postgres_failover import reconciler
from tests.unit.test_recovery_desk import asked
from tests.unit.test_recovery_orchestrator import THREE, A, B, C, V, planned
from tests.unit.test_recovery_orchestrator import World as Engine

READY = ServerState.READY


def without_its_service(engine):
    """An executor whose inventory does not have the run's service any more."""
    executor = engine.executor("h/w2/2")
    executor._platform = replace(executor._platform, services={"db": database()})
    return executor


def test_a_run_whose_service_left_the_inventory_before_it_began_ends_and_says_so():
    engine = Engine(*THREE)

    ended = engine.finish(without_its_service(engine))

    assert ended.state is RunState.COMPENSATION_FAILED
    assert "web is not in the inventory any more" in ended.error
    assert engine.log == []


def test_a_run_whose_service_left_the_inventory_on_its_way_ends_and_a_person_is_called():
    engine = Engine(*THREE)
    engine.deliver()

    ended = engine.finish(without_its_service(engine))

    assert ended.state is RunState.COMPENSATION_FAILED
    assert "web is not in the inventory any more" in ended.error
    assert engine.log == [f"do {A}"]


@pytest.mark.parametrize("error", [KeyError("web9"), TypeError("no number"), RecursionError()])
def test_a_mistake_in_an_action_ends_its_step_as_the_playbook_says(error):
    engine = Engine(*THREE)
    engine.actions[B].fail = [error]

    ended = engine.finish()

    assert ended.state is RunState.ROLLED_BACK
    assert type(error).__name__ in ended.error
    assert engine.log == [f"do {A}", f"undo {B}", f"undo {A}"]
    assert ended.step(2).attempts == 1


def test_a_mistake_in_an_undo_calls_a_person():
    engine = Engine(*THREE)
    engine.actions[C].fail = [KeyError("x")]
    engine.actions[B].fail_undo = [KeyError("web9")] * 9

    ended = engine.finish()

    assert ended.state is RunState.COMPENSATION_FAILED
    assert "KeyError: 'web9'" in ended.error


def test_an_executor_that_was_overtaken_before_it_could_abort_writes_nothing_and_raises_nothing():
    engine = Engine(*THREE)
    executor = engine.executor("h/slow/1")

    def overtaken(service):
        engine.clock.advance(60)
        engine.store.journal.claim(
            engine.run.id, 1, "do", owner="h/quick/2", now=engine.clock.now(), lease_s=3
        )
        return True

    executor._stopped = overtaken

    assert not engine.deliver(executor).taken
    assert engine.state.state is RunState.RUNNING


def test_a_step_that_was_stopped_is_not_told_as_done():
    world = GuardedWorld(web())
    world.health.kinds["web1"] = REFUSED
    world.rounds(3)
    world.orchestrator._stopped = lambda service: True
    world.drive()

    story = world.story(world.of("web"))
    assert "did take_out" not in story
    assert any("stopped by the stop switch before take_out" in line for line in story)


def test_a_run_left_waiting_by_one_who_died_while_withdrawing_it_does_not_hold_its_scope():
    """The incident was resolved, the run not yet called off: nobody else would come for it for an hour."""
    world = waiting()
    incident = world.of("web")
    world.store.incidents.move(
        incident.id, IncidentState.RESOLVED, world.clock.now(), "died then", "healthy again"
    )

    assert [run.id for run in world.approver.expire()] == [1]
    world.rounds(4)

    assert world.runs[0].id == 2
    assert world.of("web").run == 2
    assert world.incidents[0].state is IncidentState.AWAITING_APPROVAL


def test_a_run_that_waits_for_a_standing_incident_is_left_alone():
    world = waiting()

    assert world.approver.expire() == ()


def test_a_run_called_off_before_its_incident_heard_of_it_does_not_bar_the_next_one():
    """Whoever wrote the run down died then; the guards kept the others from joining it until it was over."""
    world = waiting(approval_within_s=60.0)
    world.store.incidents.incidents[1] = replace(world.of("web"), run=None, state=IncidentState.OPEN)
    world.store.limits.set_switch("stop", True, "anna", "", world.clock.now())
    world.clock.advance(61)
    world.rounds(3)
    assert [run.id for run in world.approver.expire()] == [1]
    world.store.limits.set_switch("stop", False, "anna", "", world.clock.now())

    world.rounds(4)

    assert [run.id for run in world.runs] == [2, 1]
    assert world.of("web").state is IncidentState.AWAITING_APPROVAL


def ordered_and_died(world):
    """A run by another key than detection's, whose author died before the incident was told."""
    incident = world.of("web")
    plan = world.planner.create_recovery_plan(incident)
    new = NewRun(
        plan=plan,
        incident=incident.id,
        mode="manual",
        requested_by="shop",
        reason="r",
        idempotency_key="request-shop-1",
    )
    run, _ = world.store.journal.create(new, world.clock.now())
    return run


def test_a_run_whose_author_died_before_the_incident_heard_of_it_is_told_to_it_by_its_first_step():
    world = stopped()
    world.health.kinds["web1"] = REFUSED
    world.rounds(3)
    run = ordered_and_died(world)

    world.orchestrator.advance(run.id, 1, "do")

    incident = world.of("web")
    assert (incident.state, incident.run) == (IncidentState.RECOVERING, run.id)


def test_such_a_run_that_fails_calls_a_person_and_is_not_followed_by_another_one():
    world = stopped()
    world.health.kinds["web1"] = REFUSED
    world.rounds(3)
    run = ordered_and_died(world)
    world.store.limits.set_switch("stop", False, "anna", "", world.clock.now())
    world.actions["restart_instance"].fail = [KeyError("x")] * 9
    world.orchestrator.drive(run.id, world.clock.now().replace(hour=23))

    world.rounds(4)

    assert world.of("web").state is IncidentState.ESCALATED
    assert [r.id for r in world.runs] == [run.id]


def test_who_says_yes_to_a_run_that_has_begun_meanwhile_does_not_put_another_in_its_place():
    world = waiting()
    run = world.approver.waiting(1)
    approve(world)
    world.actions["restart_instance"].fail = [ActionFailed("broken")]
    world.drive()
    world.playbooks = [replace(p, version=p.version + 1) for p in world.playbooks]
    world.approver._planner = world.planner

    with pytest.raises(Refused, match="run 1 does not wait any more"):
        world.approver.approve(run, replace(ANNA, by="ben"), blind=False, verdicts=world.verdicts)
    assert [r.id for r in world.runs] == [1]


def test_a_run_that_waits_in_the_place_of_another_is_of_the_revision_that_planned_it():
    world = GuardedWorld(web(), approval=Approval.ALWAYS, policies=Policies())
    world.health.kinds["web1"] = REFUSED
    world.rounds(4)
    entry = world.store.journal.entries[1]
    entry.run = replace(entry.run, revision=3)
    world.playbooks = [replace(p, version=p.version + 1) for p in world.playbooks]
    world.approver._planner = world.planner
    world.approver._standing = lambda: replace(world.standing(), own=4)

    with pytest.raises(Refused, match="run 2 waits in its place"):
        approve(world, run=1)
    assert world.store.journal.get(2).revision == 4


def test_a_request_that_came_too_late_leaves_the_failure_to_the_automation():
    """Its deadline is the caller's; a standing failure is still recovered."""
    world = stopped()
    world.health.kinds["web1"] = REFUSED
    world.rounds(3)
    world.store.limits.set_switch("stop", False, "anna", "", world.clock.now())
    deadline = world.clock.now().replace(minute=59)
    run = world.order(world.of("web"), deadline=deadline).run
    world.clock.advance((deadline - world.clock.now()).total_seconds() + 1)
    world.approver.expire()
    world.rounds(3)

    assert world.runs[0].id == run.id + 1
    assert world.runs[0].mode == "auto"


def test_a_reconciler_that_slept_through_a_failover_takes_the_writes_from_nobody():
    """It saw a blocked cluster; when it woke, another node had been promoted and got the traffic."""
    world = Postgres()
    now = world.clock.now()
    world.store.clusters.advance("db", 1, now, new_epoch=True, state=ClusterState.BLOCKED)
    status = world.toy.status

    def slept(node, **more):
        del world.toy.status
        world.store.clusters.advance("db", 2, now, new_epoch=True, state=ClusterState.STEADY, primary="pg2")
        world.tools.router.route_writes(world.service, "pg2")
        return status(node, **more)

    world.toy.status = slept
    with suppress(StaleEpoch):
        reconciler(world).clusters()

    ready = {w.server for w in world.store.wanted.all() if (w.backend, w.state) == ("pg_write", READY)}
    assert ready == {"pg2"}


def test_a_step_that_hangs_does_not_keep_its_run_for_ever():
    """In a pool of threads nobody ends it; the lease must end, so that another executor takes over."""
    engine, clock = Engine(planned(1, A, timeout_s=0.05), planned(2, V)), SystemClock()
    journal = engine.store.journal
    run = journal.claim(engine.run.id, 1, "do", owner="h/w1/1", now=clock.now(), lease_s=0.15)
    keeper = ThreadedLeaseKeeper(journal=journal, clock=clock, lease_s=0.15, overtime_s=0.2)

    with keeper.keep(run) as lost:
        wait_until(lost, clock=clock, within_s=5.0, what="the lease is given up")
        wait_until(
            lambda: journal.claim(run.id, 1, "do", owner="h/w2/2", now=clock.now(), lease_s=3) is not None,
            clock=clock,
            within_s=5.0,
            what="another takes over",
        )


def test_a_step_within_its_time_keeps_its_lease():
    engine, clock = Engine(planned(1, A, timeout_s=60.0), planned(2, V)), SystemClock()
    journal = engine.store.journal
    run = journal.claim(engine.run.id, 1, "do", owner="h/w1/1", now=clock.now(), lease_s=0.15)
    keeper = ThreadedLeaseKeeper(journal=journal, clock=clock, lease_s=0.15, overtime_s=0.0)
    first = run.lease_until

    with keeper.keep(run) as lost:
        wait_until(
            lambda: journal.get(run.id).lease_until > first, clock=clock, within_s=5.0, what="it is renewed"
        )
        assert not lost()


def test_a_window_whose_zone_this_host_does_not_know_holds_its_service_and_stops_nobody_else():
    """Its author's host has newer time zones. Who cannot tell whether it is open does not act."""
    world = GuardedWorld(web())
    rule = Weekly(days=(0,), start=0, end=1, tz="America/Coyhaique2")
    new = NewWindow(scope="web", actor="anna", reason="racks", rule=rule)
    window = world.store.maintenance.add(new, world.clock.now())
    world.health.kinds["web1"] = REFUSED
    world.rounds(4)

    assert world.refused(Guard.MAINTENANCE) == 1
    assert f"ha-tasks maintenance end {window.id}" in world.story(world.of("web"))[-1]
    world.store.maintenance.end(window.id, world.clock.now(), "anna")
    world.rounds(1)
    assert world.of("web").state is IncidentState.RECOVERING


class OddFailure(PassingFailure):
    """An error of somebody's own package, made in its own way."""

    def __init__(self, *, zone):
        super().__init__(f"{zone} is busy, hush")


def nested(depth):
    output = {}
    for _ in range(depth):
        output = {"a": output}
    return output


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OddFailure(zone="eu"), "eu is busy, ***"),
        (SystemExit(3), "acme 1.0: SystemExit: 3"),
        (RecursionError("too deep, hush"), "acme 1.0: RecursionError: too deep, ***"),
    ],
)
def test_whatever_an_own_action_raises_is_an_error_of_the_tree(error, raised):
    action = FakeAction([], "acme.flush")
    action.fail = [error]

    with pytest.raises(HaTasksError) as found:
        own(action).do(SimpleNamespace(captured={}))

    assert str(found.value) == raised
    assert found.value.retryable == isinstance(error, PassingFailure)


def test_an_output_that_no_journal_could_write_is_refused():
    action = FakeAction([], "acme.flush")
    action.already = nested(100_000)

    with pytest.raises(ActionFailed, match="answered no plain JSON object"):
        own(action).check(SimpleNamespace(captured={}))


def own(action):
    offer = Offer(name="acme.flush", provider="acme 1.0", target="acme:flush")
    return OwnAction(action, offer, lambda text: text.replace("hush", "***"))


def test_a_service_does_not_take_an_escalated_incident_out_of_a_persons_hands():
    world = GuardedWorld(web(), approval=Approval.ALWAYS)
    world.health.kinds["web1"] = REFUSED
    world.rounds(4)
    world.approver.reject(world.approver.waiting(1), "anna@ops", "the disk is full")

    for answer in (asked(world, dry_run=True), asked(world)):
        assert answer["state"] == "refused"
        assert answer["refused"]["guard"] == "escalated"
        assert answer["refused"]["detail"].endswith("ha-tasks ack I-1; then ask with a new key")
        assert answer["incident"] == 1
    assert [run.id for run in world.runs] == [1]
    world.store.incidents.acknowledge(1, world.clock.now(), "anna@ops")
    assert asked(world, idempotency_key="shop-4712")["run"] == 2
