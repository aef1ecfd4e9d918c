"""RecoveryOrchestrator on fakes: whatever is lost, doubled or dies, each effect is applied once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ha_tasks.errors import ActionFailed, NotSafe, PassingFailure
from ha_tasks.model.playbook import GuardSettings, Plan, PlannedStep, UndoPolicy, VerifySettings
from ha_tasks.model.run import Phase, RunState, StepState
from ha_tasks.names import ActionName, RecoveryType
from ha_tasks.ports.repositories import NewRun
from ha_tasks.recovery.recovery_orchestrator import RecoveryOrchestrator
from tests.fakes.action import FakeAction
from tests.fakes.clock import FakeClock
from tests.fakes.dispatch import FakeDispatch
from tests.fakes.lease import FakeLeaseKeeper
from tests.fakes.repositories import FakeStore
from tests.unit.builders import platform

A, B, C = ActionName.TAKE_OUT, ActionName.SPARE_IN, ActionName.RESTART_INSTANCE
V = ActionName.VERIFY_SERVICE


def planned(no, action, **more):
    values = {
        "undo": UndoPolicy.KEEP if action is V else UndoPolicy.RUN,
        "timeout_s": 5.0,
        "attempts": 2,
        "point_of_no_return": False,
    } | more
    return PlannedStep(no=no, id=str(action), action=action, args={"instance": "web1"}, **values)


def plan_of(*steps):
    return Plan(
        service="web",
        scope="web",
        playbook="test",
        version=1,
        sha256="0" * 64,
        recovery_type=RecoveryType.RESTART,
        targets=("web1",),
        steps=steps,
        guards=GuardSettings(),
        verify=VerifySettings(),
        mitigates=False,
        summary="a plan",
    )


class World:
    """A store, a broker, a clock, and any number of executors on them."""

    def __init__(self, *steps):
        self.store, self.clock, self.broker = FakeStore(), FakeClock(), FakeDispatch()
        self.log: list[str] = []
        self.settled: list[tuple] = []
        self.actions = {a: FakeAction(self.log, str(a)) for a in (A, B, C, V)}
        self.dies_at: set[str] = set()
        new = NewRun(
            plan=plan_of(*steps),
            incident=None,
            mode="auto",
            requested_by="test",
            reason="test",
            idempotency_key="key-00001",
        )
        self.run, message = self.store.journal.create(new, self.clock.now())
        self.worker = self.executor("h/w1/1")
        self.worker.send(message)

    def executor(self, owner):
        return RecoveryOrchestrator(
            platform=platform(),
            journal=self.store.journal,
            incidents=self.store.incidents,
            actions=self.actions,
            clock=self.clock,
            dispatch=self.broker,
            leases=FakeLeaseKeeper(),
            owner=owner,
            settled=lambda before, after: self.settled.append((before, after)),
            boundary=self._boundary,
        )

    def _boundary(self, phase, action, point):
        if f"{phase}.{action}.{point}" in self.dies_at:
            self.dies_at.remove(f"{phase}.{action}.{point}")
            raise Died

    def deliver(self, executor=None):
        message = self.broker.take()
        phase = Phase.UNDO if message.task.startswith("ha.undo.") else Phase.DO
        return (executor or self.worker).advance(message.kwargs["run"], message.kwargs["step"], phase)

    def finish(self, executor=None):
        """Delivers and sweeps until the run has ended; a death loses the message with its worker."""
        for _ in range(60):
            if self.state.state in END:
                return self.state
            try:
                if self.broker.messages:
                    self.deliver(executor)
                else:
                    self.clock.advance(1.0)
                    (executor or self.worker).sweep()
            except Died:
                continue
        raise AssertionError(f"never ended: {self.state}")

    @property
    def state(self):
        return self.store.journal.get(self.run.id)


class Died(BaseException):
    """SIGKILL, as far as a fake can."""


END = {RunState.SUCCEEDED, RunState.ROLLED_BACK, RunState.COMPENSATION_FAILED, RunState.ABORTED}
THREE = (planned(1, A), planned(2, B), planned(3, C), planned(4, V))


def test_a_run_goes_through_its_steps_in_order_and_succeeds():
    world = World(*THREE)

    ended = world.finish()

    assert ended.state is RunState.SUCCEEDED
    assert world.log == [f"do {A}", f"do {B}", f"do {C}", f"do {V}"]
    assert ended.outputs[str(B)] == {"done": str(B)}


def test_what_undo_needs_is_captured_before_the_effect():
    world = World(*THREE)

    world.finish()

    assert world.actions[A].captured == [{"before": str(A)}]
    assert world.state.step(1).captured == {"before": str(A)}


def test_a_step_that_fails_for_good_has_the_done_steps_undone_last_first():
    world = World(*THREE)
    world.actions[C].fail = [ActionFailed("broken")]

    ended = world.finish()

    assert ended.state is RunState.ROLLED_BACK
    assert world.log == [f"do {A}", f"do {B}", f"undo {C}", f"undo {B}", f"undo {A}"]
    assert ended.error == "broken"


def test_a_passing_failure_is_tried_again_and_not_before_it_is_due():
    world = World(*THREE)
    world.actions[A].fail = [PassingFailure("not yet")]
    world.deliver()

    assert world.broker.messages == []
    assert world.finish().state is RunState.SUCCEEDED
    assert world.state.step(1).attempts == 2


def test_a_passing_failure_that_does_not_pass_ends_the_run():
    world = World(*THREE)
    world.actions[A].fail = [PassingFailure("not yet"), PassingFailure("never")]

    assert world.finish().state is RunState.ROLLED_BACK


def test_past_the_point_of_no_return_nothing_is_undone():
    world = World(planned(1, A), planned(2, B, point_of_no_return=True), planned(3, C), planned(4, V))
    world.actions[C].fail = [NotSafe("broken")]

    ended = world.finish()

    assert ended.state is RunState.COMPENSATION_FAILED
    assert "undo" not in " ".join(world.log)


def test_an_undo_that_fails_is_tried_again_and_then_a_person_is_called():
    world = World(*THREE)
    world.actions[C].fail = [ActionFailed("broken")]
    world.actions[B].fail_undo = [ActionFailed("stuck"), ActionFailed("stuck")]

    ended = world.finish()

    assert ended.state is RunState.COMPENSATION_FAILED
    assert ended.step(2).state is StepState.UNDO_FAILED
    assert f"undo {A}" not in world.log


def test_a_doubled_message_is_nothing():
    world = World(*THREE)
    message = world.broker.messages[0]
    world.deliver()

    assert not world.worker.advance(message.kwargs["run"], message.kwargs["step"], Phase.DO).taken
    assert world.log == [f"do {A}"]


def test_two_executors_that_take_the_same_step_apply_it_once():
    world = World(*THREE)
    other = world.executor("h/w2/2")
    message = world.broker.messages[0]
    taken = []
    world.actions[A].do = lambda ctx: (
        taken.append(other.advance(message.kwargs["run"], 1, Phase.DO).taken) or {"done": "once"}
    )

    world.deliver()

    assert taken == [False]


def test_while_the_broker_is_away_the_outbox_keeps_the_message():
    world = World(*THREE)
    world.broker.away = True
    world.deliver()
    assert world.broker.messages == []

    world.broker.away = False
    assert world.finish().state is RunState.SUCCEEDED


def test_a_broker_that_lost_everything_is_told_again_by_the_sweeper():
    world = World(*THREE)
    world.broker.messages.clear()

    assert world.finish().state is RunState.SUCCEEDED


def test_an_executor_that_comes_back_after_its_lease_can_write_nothing():
    world = World(*THREE)
    zombie, successor = world.executor("h/w1/1"), world.executor("h/w2/2")
    world.broker.messages.clear()

    def paused(ctx):
        world.clock.advance(10)
        world.actions[A].do = lambda ctx: world.log.append("do again") or {"done": "by the successor"}
        assert successor.advance(world.run.id, 1, Phase.DO).taken
        return {"done": "by the zombie"}

    world.actions[A].do = paused
    answer = zombie.advance(world.run.id, 1, Phase.DO)

    assert not answer.taken
    assert world.state.step(1).output == {"done": "by the successor"}


def test_what_never_has_anything_to_capture_is_not_written_down():
    """A write for nothing, before each of most steps; also when another takes the step over."""
    world = World(*THREE)
    for fake in world.actions.values():
        fake.capture = lambda ctx: None
    written = []
    world.store.journal.capture = lambda *what: written.append(what)
    world.dies_at = {f"do.{B}.captured"}

    ended = world.finish()

    assert ended.state is RunState.SUCCEEDED
    assert written == []
    assert all(captured == {} for fake in world.actions.values() for captured in fake.captured)


POINTS = ("claimed", "captured", "applied", "done", "settled", "sent")


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("action", [A, B, C, V])
def test_an_executor_that_dies_at_any_boundary_is_made_good(action, point):
    """The effect is idempotent here: ``check`` says when it is there already."""
    world = World(*THREE)
    world.dies_at = {f"do.{action}.{point}"}

    def once(name, ctx_action):
        def do(ctx):
            ctx_action.already = {"done": name}
            world.log.append(f"do {name}")
            return {"done": name}

        return do

    for name, fake in world.actions.items():
        fake.do = once(str(name), fake)

    ended = world.finish()

    assert ended.state is RunState.SUCCEEDED
    assert sorted(world.log) == sorted(f"do {a}" for a in (A, B, C, V))
    assert world.dies_at == set()


@pytest.mark.parametrize("point", ["claimed", "captured", "done", "settled", "sent"])
@pytest.mark.parametrize("action", [A, B, C])
def test_a_compensation_survives_the_death_of_its_executor(action, point):
    world = World(*THREE)
    world.actions[C].fail = [ActionFailed("broken")]
    world.dies_at = {f"undo.{action}.{point}"}

    ended = world.finish()

    assert ended.state is RunState.ROLLED_BACK
    undone = [line for line in dict.fromkeys(world.log) if line.startswith("undo")]
    assert undone == [f"undo {C}", f"undo {B}", f"undo {A}"]
    assert world.dies_at == set()


def test_a_step_that_kills_every_executor_ends_the_run_instead_of_looping():
    world = World(*THREE)

    def deadly(ctx):
        raise Died

    world.actions[B].do = deadly

    ended = world.finish()

    assert ended.state is RunState.ROLLED_BACK
    assert "died" in ended.error


def test_drive_takes_a_run_to_its_end_without_a_broker():
    world = World(*THREE)
    world.broker.away = True

    ended = world.worker.drive(world.run.id, world.clock.now() + timedelta(seconds=60))

    assert ended.state is RunState.SUCCEEDED


def test_drive_returns_what_it_has_at_its_deadline():
    world = World(*THREE)
    holder = world.store.journal.claim(
        world.run.id, 1, "do", owner="h/w9/9", now=world.clock.now(), lease_s=1000
    )

    ended = world.worker.drive(world.run.id, world.clock.now() + timedelta(seconds=5))

    assert holder is not None
    assert ended.state is RunState.RUNNING


def test_the_stop_switch_ends_a_run_between_two_steps():
    world = World(*THREE)
    world.deliver()
    world.worker._stopped = lambda service: service == "web"

    ended = world.finish()

    assert ended.state is RunState.ABORTED
    assert world.log == [f"do {A}"]
    assert ended.step(2).state is StepState.READY
    assert "stop switch" in ended.error


def test_by_a_store_that_is_held_no_step_is_taken_and_its_run_waits():
    world = World(*THREE)
    world.deliver()
    world.worker._held = lambda: "the store is older than its agents"

    waiting = world.state
    answer = world.worker.advance(waiting.id, waiting.position, waiting.phase)

    assert (answer.taken, answer.error) == (False, "the store is older than its agents")
    assert world.log == [f"do {A}"]
    assert world.state == waiting
    world.worker._held = lambda: None
    assert world.finish().state is RunState.SUCCEEDED


def test_the_stop_switch_does_not_end_a_compensation_under_way():
    world = World(*THREE)
    world.actions[B].fail = [ActionFailed("broken")]
    world.deliver()
    world.deliver()
    world.worker._stopped = lambda service: service == "web"

    assert world.finish().state is RunState.ROLLED_BACK


def test_every_settled_attempt_is_told():
    world = World(*THREE)
    world.finish()

    assert [after.state for _, after in world.settled][-1] is RunState.SUCCEEDED
    assert len(world.settled) == 4
