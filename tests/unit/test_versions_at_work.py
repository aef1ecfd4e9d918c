"""Versions at work, on fakes: a bad change is taken back, whoever made it, and only a bad one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from ha_tasks.disaster_recovery.playbooks import load_playbooks
from ha_tasks.disaster_recovery.recovery_planner import RecoveryPlanner
from ha_tasks.errors import AgentUnreachable, ServiceUnreachable, UsageError
from ha_tasks.model.incident import IncidentKind, IncidentState
from ha_tasks.model.platform import Instance, Role, Service, ServiceKind, VersionedFile
from ha_tasks.model.playbook import VerifySettings
from ha_tasks.model.probe import OutcomeKind
from ha_tasks.model.run import Run, RunState
from ha_tasks.model.versions import Judgement
from ha_tasks.names import ActionName
from ha_tasks.ports.action import StepContext
from ha_tasks.ports.boundary import Boundary
from ha_tasks.recovery.recovery_orchestrator import RecoveryOrchestrator
from ha_tasks.recovery.rollback_controller import RollbackController
from ha_tasks.workflows.actions.conformance import Trial, check_action
from ha_tasks.workflows.actions.versions import ApplyVersion, VersionTools
from ha_tasks.workflows.file_watch import FileWatch
from ha_tasks.workflows.planned_work import Ordered
from ha_tasks.workflows.preview import preview
from tests.fakes.clock import START, FakeClock
from tests.fakes.host import FakeFileAgents
from tests.fakes.lease import FakeLeaseKeeper
from tests.fakes.versions import FakeVersions
from tests.unit.builders import web
from tests.unit.test_detection import OK, REFUSED, World

A, B = ("app1", "site"), ("app2", "site")
LATER = START.replace(year=2100)
FIRST, NEXT, BROKEN = "1" * 64, "2" * 64, "b" * 64


def site() -> Service:
    """Two instances on a host each, served from a file of the same name."""

    def instance(name: str, host: str, role: Role) -> Instance:
        return Instance(name=name, service="web", host=host, address="127.0.0.1:1", role=role, unit=name)

    return replace(
        web(),
        instances=(instance("web1", "app1", Role.ACTIVE), instance("web2", "app2", Role.ACTIVE)),
        files=(VersionedFile(name="site", host="app1"), VersionedFile(name="site", host="app2")),
    )


class Users:
    """Whoever comes through the balancer: served as long as one instance is."""

    def __init__(self, kinds: Mapping[str, OutcomeKind]) -> None:
        self.kinds = kinds
        self.unserved = False

    def try_once(self, service: Service, token: str) -> None:
        down = all(self.kinds.get(i.name, OK) is not OK for i in service.instances)
        if self.unserved or down:
            raise ServiceUnreachable("502")


class Site(World):
    """Detection, guards, planner, journal, executor; an instance with the BROKEN content does not answer."""

    def __init__(self) -> None:
        super().__init__(site())
        self.service = self.platform.services["web"]
        self.agents = FakeFileAgents({A: FIRST, B: FIRST})
        self.agents.put = self._loaded
        self.users = Users(self.health.kinds)
        self.rollback = RollbackController(
            versions=self.store.versions, agents=self.agents, clock=self.clock, actor="h/test"
        )
        self.apply = ApplyVersion(
            VersionTools(
                rollback=self.rollback,
                look=self.health.look,
                paths={ServiceKind.HTTP: self.users},
                clock=self.clock,
            )
        )
        self.actions[ActionName.APPLY_VERSION] = self.apply

    def planner(self) -> RecoveryPlanner:
        return RecoveryPlanner(self.platform, load_playbooks(()), changed=self.is_changed)

    def is_changed(self, service: Service, instance: str) -> bool:
        return self.rollback.is_changed(service, instance)

    def _loaded(self, host: str, _file: str, digest: str) -> None:
        instance = {"app1": "web1", "app2": "web2"}[host]
        self.health.kinds[instance] = REFUSED if digest == BROKEN else OK

    def push(self, digest: str, *places: tuple[str, str]) -> None:
        """Somebody else writes the files and reloads."""
        for place in places or (A, B):
            self.agents.places[place] = digest
            self._loaded(*place, digest)

    def good(self, digest: str) -> None:
        """A version that is in place and has served."""
        self.push(digest)
        version = self.rollback.record(self.service, staged=False, actor="ann", reason="")
        self.rollback.judge(version, Judgement.GOOD, "served")

    def stage(self, digest: str) -> str:
        self.agents.staged = {A: digest, B: digest}
        return self.rollback.record(self.service, staged=True, actor="ann", reason="new").word

    def executor(self, boundary: Boundary) -> RecoveryOrchestrator:
        """One that can be stopped at a boundary."""
        return RecoveryOrchestrator(
            platform=self.platform,
            journal=self.store.journal,
            incidents=self.store.incidents,
            actions=self.actions,
            clock=self.clock,
            dispatch=self.broker,
            leases=FakeLeaseKeeper(),
            owner="h/other/1",
            settled=self.follower.settled,
            boundary=boundary,
        )

    def order(self, word: str, key: str = "k") -> Run:
        return self.orchestrator.drive(self.begun(word, key).id, LATER)

    def begun(self, word: str, key: str = "k") -> Run:
        ordered = Ordered(
            kind=IncidentKind.VERSION_ORDERED,
            service="web",
            instance=word,
            requested_by="ann",
            reason="",
            key=key,
        )
        return self.work().begin(ordered, self.detection.judge([self.service]))

    def judgements(self) -> dict[str, Judgement]:
        return {v.word: v.judgement for v in self.store.versions.of("web")}


def test_an_ordered_version_is_put_into_place_host_by_host_and_becomes_good():
    world = Site()
    world.good(FIRST)
    world.rounds(3)
    word = world.stage(NEXT)

    run = world.order(word)

    assert run.state is RunState.SUCCEEDED
    assert world.agents.places == {A: NEXT, B: NEXT}
    assert world.agents.told == [(*A, NEXT), (*B, NEXT)]
    assert world.judgements() == {"v1": Judgement.GOOD, "v2": Judgement.GOOD}


def test_a_version_that_does_not_serve_gets_to_one_host_and_is_taken_back_by_itself():
    world = Site()
    world.good(FIRST)
    world.rounds(3)

    run = world.order(world.stage(BROKEN))

    assert run.state is RunState.ROLLED_BACK
    assert "no good answer for web1 on app1 with v2" in run.error
    assert world.agents.told == [(*A, BROKEN), (*A, FIRST)]
    assert world.agents.places == {A: FIRST, B: FIRST}
    assert world.health.kinds["web1"] is OK
    assert world.judgements() == {"v1": Judgement.GOOD, "v2": Judgement.BAD}


def test_a_version_whose_instances_answer_and_whose_users_are_not_served_is_taken_back():
    world = Site()
    world.good(FIRST)
    world.rounds(3)
    world.users.unserved = True

    run = world.order(world.stage(NEXT))

    assert run.state is RunState.ROLLED_BACK
    assert "users through the balancer" in run.error
    assert world.agents.places == {A: FIRST, B: FIRST}
    assert world.judgements()["v2"] is Judgement.BAD


def test_what_a_check_refuses_changes_nothing_and_is_not_called_bad():
    world = Site()
    world.good(FIRST)
    world.rounds(3)
    world.agents.refused = {NEXT}

    run = world.order(world.stage(NEXT))

    assert run.state is RunState.ROLLED_BACK
    assert "its check refuses" in run.error
    assert world.agents.told == []
    assert world.judgements()["v2"] is Judgement.RECORDED


def test_what_is_in_place_and_was_never_loaded_is_loaded_by_the_next_order():
    world = Site()
    world.good(FIRST)
    world.rounds(3)
    world.agents.deaf = {"site"}
    failed = world.order(world.stage(NEXT), "while nothing can be reloaded")
    world.agents.deaf = set()
    world.agents.places[A] = FIRST  # by hand, and nobody was told
    run = world.order("v1", "afterwards")

    assert failed.state is RunState.COMPENSATION_FAILED
    assert run.state is RunState.SUCCEEDED
    assert world.agents.told == [(*A, FIRST)]


class Died(BaseException):
    """SIGKILL, as far as a fake can."""


@pytest.mark.parametrize(
    ("content", "where"),
    [
        *((NEXT, f"do.apply_version.{point}") for point in ("captured", "applied", "done", "settled")),
        (NEXT, "do.verify_service.done"),
        *((BROKEN, f"do.apply_version.{point}") for point in ("captured", "done", "settled")),
        *((BROKEN, f"undo.apply_version.{point}") for point in ("captured", "done", "settled")),
    ],
)
def test_whoever_dies_on_the_way_it_ends_right(content, where):
    world = Site()
    world.good(FIRST)
    world.rounds(3)
    run = world.begun(world.stage(content))
    reached: list[str] = []

    def dies_once(phase: object, action: str, point: str) -> None:
        reached.append(f"{phase}.{action}.{point}")
        if reached.count(where) == 1 and reached[-1] == where:
            raise Died

    with suppress(Died):
        world.executor(dies_once).drive(run.id, LATER)
    world.clock.advance(10)
    ended = world.orchestrator.drive(run.id, LATER)

    good = content == NEXT
    assert where in reached
    assert ended.state is (RunState.SUCCEEDED if good else RunState.ROLLED_BACK)
    assert world.agents.places == dict.fromkeys((A, B), content if good else FIRST)
    assert world.judgements()["v2"] is (Judgement.GOOD if good else Judgement.BAD)


def test_a_bad_change_that_somebody_pushed_everywhere_is_found_by_health_and_taken_back():
    world = Site()
    world.good(FIRST)
    world.rounds(3)
    world.push(BROKEN)
    world.rounds(6)
    (run,) = world.store.journal.recent()

    world.drive()
    world.rounds(20)

    assert run.plan.playbook == "version-rollback"
    assert world.store.journal.get(run.id).state is RunState.SUCCEEDED
    assert world.agents.places == {A: FIRST, B: FIRST}
    assert {i.state for i in world.incidents} == {IncidentState.RESOLVED}


def test_an_instance_that_dies_with_its_files_unchanged_is_restarted_as_ever():
    world = Site()
    world.good(FIRST)
    world.rounds(3)
    world.health.kinds["web1"] = REFUSED
    world.rounds(6)

    assert [run.plan.playbook for run in world.store.journal.recent()] == ["http-instance"]


def test_a_change_on_another_host_is_not_taken_for_the_reason():
    world = Site()
    world.good(FIRST)
    world.rounds(3)
    world.push(NEXT, B)
    world.health.kinds["web1"] = REFUSED
    world.rounds(6)

    assert [run.plan.playbook for run in world.store.journal.recent()] == ["http-instance"]


def test_a_good_version_of_other_files_is_no_reason_to_take_anything_back():
    world = Site()
    world.good(FIRST)
    world.push(BROKEN)
    more = replace(world.service, files=(*world.service.files, VersionedFile(name="app", host="app1")))

    assert world.rollback.is_changed(world.service, "web1")
    assert not world.rollback.is_changed(more, "web1")


def test_a_silent_agent_is_no_reason_to_take_anything_back():
    world = Site()
    world.good(FIRST)
    world.push(BROKEN, A)
    world.agents.silent = {"app1"}

    assert not world.rollback.is_changed(world.service, "web1")


def test_an_agent_that_knows_no_such_file_keeps_nothing_from_being_recovered():
    world = Site()
    world.good(FIRST)
    world.rounds(3)
    world.agents.places = {B: BROKEN}
    world.health.kinds["web1"] = REFUSED
    world.rounds(6)

    assert [run.plan.playbook for run in world.store.journal.recent()] == ["http-instance"]


def test_where_the_change_was_not_the_reason_it_is_put_back_and_a_person_is_called():
    world = Site()
    world.good(FIRST)
    world.rounds(3)
    world.push(NEXT, A)
    world.agents.put = lambda *_: None
    world.health.kinds["web1"] = REFUSED
    world.rounds(6)
    world.drive()

    (run,) = world.store.journal.recent()
    assert (run.plan.playbook, run.state) == ("version-rollback", RunState.ROLLED_BACK)
    assert world.agents.places == {A: NEXT, B: FIRST}
    assert {i.state for i in world.incidents} == {IncidentState.ESCALATED}


def test_a_person_rolls_back_while_the_service_is_down_and_an_incident_stands():
    world = Site()
    world.good(FIRST)
    world.rounds(3)
    world.store.limits.cool("web", "version-rollback", world.clock.now().replace(year=2100), length_s=9)
    world.push(BROKEN)
    world.rounds(6)
    assert {i.state for i in world.incidents} == {IncidentState.BLOCKED}

    run = world.order(world.rollback.way_back(world.service).word)

    assert run.state is RunState.SUCCEEDED
    assert world.agents.places == {A: FIRST, B: FIRST}


def test_after_a_rollback_the_older_version_is_the_good_one_and_nothing_leads_forward_again():
    world = Site()
    world.good(FIRST)
    world.rounds(3)
    world.order(world.stage(NEXT), "to v2")
    world.clock.advance(60)
    world.rounds(3)
    world.order(world.rollback.way_back(world.service).word, "back to v1")
    present = dict(world.agents.places)
    world.health.kinds["web1"] = REFUSED
    world.rounds(6)

    assert present == {A: FIRST, B: FIRST}
    assert world.store.journal.recent()[0].plan.playbook == "http-instance"
    with pytest.raises(UsageError, match="there is no good version of web to go back to"):
        world.rollback.way_back(world.service)


def watch(world: Site) -> FileWatch:
    return FileWatch(
        platform=world.platform,
        rollback=world.rollback,
        versions=world.store.versions,
        judge=world.detection.judge,
        journal=world.store.journal,
        clock=world.clock,
        actor="h/test",
        held=lambda: world.held,
    )


def look(world: Site, watching: FileWatch, seconds: int) -> None:
    for _ in range(seconds):
        world.rounds(2)
        watching.look()


def test_what_serves_well_for_a_minute_becomes_the_good_version_by_itself():
    world = Site()
    watching = watch(world)
    look(world, watching, 55)
    assert world.judgements() == {}
    look(world, watching, 10)
    assert world.judgements() == {"v1": Judgement.GOOD}

    world.push(NEXT)
    look(world, watching, 65)

    assert world.judgements() == {"v1": Judgement.GOOD, "v2": Judgement.GOOD}
    assert not world.rollback.is_changed(world.service, "web1")


@pytest.mark.parametrize("trouble", ["silent agent", "failing instance", "held", "changed again"])
def test_the_minute_begins_anew_with_every_doubt(trouble):
    world = Site()
    watching = watch(world)
    look(world, watching, 50)
    if trouble == "silent agent":
        world.agents.silent = {"app2"}
    elif trouble == "failing instance":
        world.health.kinds["web2"] = REFUSED
    elif trouble == "held":
        world.held = "the store is older than its agents"
    else:
        world.push(NEXT)
    look(world, watching, 6 if trouble != "held" else 60)
    world.agents.silent = set()
    world.health.kinds["web2"] = OK
    look(world, watching, 20 if trouble != "held" else 0)

    assert world.judgements() == {}


def test_a_version_of_files_that_the_service_has_no_more_is_not_applied():
    world = Site()
    world.good(FIRST)
    world.rounds(3)
    world.store.versions.record("web", {"app1/site": NEXT}, actor="ann", reason="", now=world.clock.now())

    run = world.order("v2")

    assert run.state is RunState.ROLLED_BACK
    assert "was recorded with other files (app2/site)" in run.error
    assert world.agents.told == []


def test_what_cannot_be_recorded_or_gone_back_to_is_said_with_its_mending():
    world = Site()
    with pytest.raises(UsageError, match="nothing waits beside"):
        world.rollback.record(world.service, staged=True, actor="ann", reason="")
    with pytest.raises(
        UsageError, match=r"no files; name what it is served from: \[\[services.web.files\]\]"
    ):
        world.rollback.record(web(), staged=False, actor="ann", reason="")
    with pytest.raises(UsageError, match="there is no good version of web to go back to"):
        world.rollback.way_back(world.service)
    with pytest.raises(UsageError, match="has no version v9; see: ha-tasks versions web"):
        world.rollback.target(world.service, "v9")
    world.agents.silent = {"app2"}
    with pytest.raises(AgentUnreachable, match="app2"):
        world.rollback.record(world.service, staged=False, actor="ann", reason="")


def test_its_plan_shows_digests_and_changes_nothing():
    world = Site()
    world.good(FIRST)
    incident = world.work().subject(IncidentKind.VERSION_ORDERED, "web", world.stage(NEXT))
    plan = world.planner().create_recovery_plan(incident)

    (step, _) = preview(plan, world.service, incident, {**world.actions, "apply_version": world.apply})

    assert [(c.what, c.before, c.after) for c in step.difference.changes] == [
        ("app1/site", "1" * 12, "2" * 12),
        ("app2/site", "1" * 12, "2" * 12),
    ]
    assert world.agents.told == []


def test_the_action_keeps_the_contract_but_for_a_check_because_what_is_in_place_need_not_serve():
    clock, agents = FakeClock(), FakeFileAgents({A: FIRST, B: FIRST})
    rollback = RollbackController(versions=FakeVersions(), agents=agents, clock=clock, actor="h/test")
    agents.staged = {A: NEXT, B: NEXT}
    rollback.record(site(), staged=True, actor="ann", reason="")
    users = Users({})
    tools = VersionTools(rollback=rollback, look=lambda _: (), paths={ServiceKind.HTTP: users}, clock=clock)
    context = StepContext(
        run=1,
        step=1,
        key="run-1-1",
        service=site(),
        incident=None,
        args={"version": "v1"},
        captured={},
        outputs={},
        fence=1,
        verify=VerifySettings(within_s=1.0),
        remaining_s=lambda: 60.0,
        lost=lambda: False,
    )

    @contextmanager
    def cut():
        users.unserved = True
        try:
            yield
        finally:
            users.unserved = False

    trial = Trial(context=context, look=lambda: dict(agents.places), cut=cut, fenced=True)

    assert check_action(ApplyVersion(tools), trial) == (
        "check: does not see that it is so after it was done",
    )
