"""Detection on fakes: from outcomes to one incident and one run, or to a refusal that is written down."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ha_tasks.disaster_recovery.playbooks import load_playbooks
from ha_tasks.disaster_recovery.recovery_planner import RecoveryPlanner
from ha_tasks.errors import ActionFailed, NotSafe
from ha_tasks.failover.service_discovery import ServiceRegistry
from ha_tasks.model.cluster import Cluster, ClusterState, sync_set_of
from ha_tasks.model.health import service_health
from ha_tasks.model.incident import IncidentKind, IncidentState
from ha_tasks.model.probe import OutcomeKind, Target
from ha_tasks.model.revision import UNREVISED
from ha_tasks.model.run import RunState
from ha_tasks.model.serving import ledger_entry
from ha_tasks.model.verdict import Verdict, VerdictState
from ha_tasks.recovery.failure_detector import DetectorSettings, FailureDetector
from ha_tasks.recovery.recovery_orchestrator import RecoveryOrchestrator
from ha_tasks.workflows.detection import Detection
from ha_tasks.workflows.guard_facts import GuardFactsGatherer
from ha_tasks.workflows.planned_work import Ordered, PlannedWork
from ha_tasks.workflows.recovery import DetectAndRecover, IncidentFollower
from ha_tasks.workflows.starting import RunStarter
from tests.fakes.action import FakeAction
from tests.fakes.clock import FakeClock
from tests.fakes.dispatch import FakeDispatch
from tests.fakes.lease import FakeLeaseKeeper
from tests.fakes.repositories import FakeStore
from tests.unit.builders import database, outcome, platform, web

REFUSED, OK = OutcomeKind.REFUSED, OutcomeKind.OK
ACTOR = "h/test"


class FakeHealth:
    """Looks at a world that is a table: instance -> kind of outcome, and facts."""

    def __init__(self, clock):
        self.clock = clock
        self.kinds = {}
        self.facts = {}
        self.rtts = {}
        self.vantages = ("h1/a", "h2/b")

    def look(self, services):
        outcomes = []
        for service in services:
            for instance in service.instances:
                for vantage in self.vantages:
                    kind = self.kinds.get(instance.name, OK)
                    plain = outcome(instance.name, 0, kind, service=service.name, vantage=vantage)
                    now = self.clock.now()
                    facts = self.facts.get(instance.name, {})
                    rtt_s = self.rtts.get(instance.name, plain.rtt_s)
                    outcomes.append(replace(plain, sent_at=now, known_at=now, rtt_s=rtt_s, facts=facts))
        return tuple(outcomes)


class World:
    def __init__(self, *services):
        self.platform = platform(*services)
        self.held = None
        self.store, self.clock, self.broker = FakeStore(), FakeClock(), FakeDispatch()
        self.health = FakeHealth(self.clock)
        store = self.store
        self.follower = IncidentFollower(
            incidents=store.incidents,
            journal=store.journal,
            limits=store.limits,
            ledger=store.ledger,
            clock=self.clock,
            actor=ACTOR,
        )
        self.log = []
        playbooks = load_playbooks(())
        names = {s.action for p in playbooks for s in p.steps} | {"verify_service"}
        self.actions = {n: FakeAction(self.log, str(n)) for n in names}
        self.orchestrator = RecoveryOrchestrator(
            platform=self.platform,
            journal=store.journal,
            incidents=store.incidents,
            actions=self.actions,
            clock=self.clock,
            dispatch=self.broker,
            leases=FakeLeaseKeeper(),
            owner="h/test/1",
            settled=self.follower.settled,
        )
        self.detector = FailureDetector(DetectorSettings())
        self.detection = self.observer(ACTOR)
        self.detect_and_recover = DetectAndRecover(
            platform=self.platform,
            detection=self.detection,
            orchestrator=self.orchestrator,
            incidents=store.incidents,
            journal=store.journal,
            clock=self.clock,
        )

    def observer(self, actor):
        store = self.store
        return Detection(
            platform=self.platform,
            health=self.health,
            registry=ServiceRegistry(self.platform, store.wanted, store.registrations),
            detector=self.detector,
            starter=self.starter(actor),
            observations=store.observations,
            incidents=store.incidents,
            clusters=store.clusters,
            limits=store.limits,
            ledger=store.ledger,
            clock=self.clock,
            actor=actor,
        )

    def starter(self, actor):
        store = self.store
        return RunStarter(
            planner=self.planner(),
            guards=self.guards(),
            orchestrator=self.orchestrator,
            incidents=store.incidents,
            journal=store.journal,
            limits=store.limits,
            ledger=store.ledger,
            clock=self.clock,
            actor=actor,
            held=lambda: self.held,
            standing=self.standing,
        )

    def planner(self):
        return RecoveryPlanner(self.platform, load_playbooks(()))

    def guards(self):
        return GuardFactsGatherer(
            platform=self.platform, sources=self.store, clock=self.clock, standing=self.standing
        )

    def work(self):
        return PlannedWork(
            planner=self.planner(),
            guards=self.guards(),
            orchestrator=self.orchestrator,
            incidents=self.store.incidents,
            journal=self.store.journal,
            ledger=self.store.ledger,
            clock=self.clock,
        )

    def standing(self):
        return UNREVISED

    def rounds(self, count, observers=None):
        services = list(self.platform.services.values())
        found = []
        for _ in range(count):
            self.clock.advance(0.5)
            for detection in observers or [self.detection]:
                detection.look(services)
                found.append(detection.react(detection.judge(services)))
        return found

    def drive(self):
        until = self.clock.now().replace(year=2100)
        for run in self.store.journal.active():
            self.orchestrator.drive(run.id, until)

    @property
    def incidents(self):
        return self.store.incidents.recent(20)

    def cluster(self, primary="pg1", members=("pg2", "pg3")):
        self.store.clusters.register(
            Cluster(
                name="db",
                epoch=1,
                primary=primary,
                state=ClusterState.STEADY,
                sets=(sync_set_of(members),),
            ),
            self.clock.now(),
        )


def test_a_healthy_system_has_no_incident_and_is_available():
    world = World(web())
    world.rounds(5)

    assert world.incidents == ()
    assert world.store.ledger.scores()["web"][0] == 1.0


def test_a_dead_instance_becomes_one_incident_and_one_run():
    world = World(web())
    world.health.kinds["web1"] = REFUSED
    world.rounds(6)

    (incident,) = world.incidents
    assert incident.state is IncidentState.RECOVERING
    assert incident.kind is IncidentKind.INSTANCE_DOWN
    assert [r.plan.playbook for r in world.store.journal.recent()] == ["http-instance"]
    assert world.broker.messages[0].task == "ha.step.take_out"


def test_what_planned_work_stops_has_not_failed_until_that_work_has_ended():
    world = World(web())
    world.rounds(3)
    work = world.work()
    verdicts = world.detection.judge([world.platform.services["web"]])
    ordered = Ordered(
        kind=IncidentKind.INSTANCE_DOWN,
        service="web",
        instance="web1",
        requested_by="ops",
        reason="a new disk",
        key="k",
    )
    run = work.begin(ordered, verdicts)
    world.health.kinds["web1"] = REFUSED
    world.rounds(6)
    meanwhile = world.incidents
    world.store.journal.call_off(run.id, "over", world.clock.now(), "ops")
    world.rounds(6)

    assert meanwhile == ()
    assert [i.instance for i in world.incidents] == ["web1"]


def test_by_a_store_that_is_held_nothing_is_started_and_the_incident_says_why():
    world = World(web())
    world.health.kinds["web1"] = REFUSED
    world.held = "the store is older than its agents; ha-tasks store approve"
    world.rounds(6)

    (incident,) = world.incidents
    assert incident.state is IncidentState.BLOCKED
    assert world.store.journal.recent() == ()
    assert world.held in world.store.incidents.timeline(incident.id)[-1].text


def test_two_observers_make_one_incident_and_one_run():
    world = World(web())
    world.health.kinds["web1"] = REFUSED
    world.rounds(4, [world.observer("h1/a"), world.observer("h2/b")])

    assert len(world.incidents) == 1
    assert len(world.store.journal.recent()) == 1
    assert len(world.broker.messages) == 1


def test_a_recovered_instance_resolves_its_incident_and_cools_down():
    world = World(web())
    world.health.kinds["web1"] = REFUSED
    world.rounds(3)
    world.health.kinds["web1"] = OK
    world.drive()

    (incident,) = world.incidents
    assert incident.state is IncidentState.RESOLVED
    assert world.store.limits.cooling("web", "http-instance") is not None


def test_a_second_failure_within_the_cool_down_is_blocked_and_told_once():
    world = World(web())
    world.health.kinds["web1"] = REFUSED
    world.rounds(3)
    world.health.kinds["web1"] = OK
    world.drive()
    world.health.kinds["web2"] = REFUSED
    world.rounds(6)

    latest = world.incidents[0]
    assert latest.state is IncidentState.BLOCKED
    refusals = [e for e in world.store.incidents.timeline(latest.id) if "refused by" in e.text]
    assert len(refusals) == 1
    assert "cool_down" in refusals[0].text


def test_an_acknowledged_cool_down_lets_the_blocked_recovery_go_on():
    world = World(web())
    world.health.kinds["web1"] = REFUSED
    world.rounds(3)
    world.health.kinds["web1"] = OK
    world.drive()
    world.health.kinds["web2"] = REFUSED
    world.rounds(4)
    world.store.limits.acknowledge("web", world.clock.now(), "a person")
    world.rounds(1)

    assert world.incidents[0].state is IncidentState.RECOVERING


def test_what_mends_itself_before_anything_was_done_is_resolved():
    world = World(web())
    world.store.limits.set_switch("observe", True, "a person", "looking first", world.clock.now())
    world.health.kinds["web1"] = REFUSED
    world.rounds(3)
    assert world.incidents[0].state is IncidentState.BLOCKED
    world.health.kinds["web1"] = OK
    world.rounds(17)

    assert world.incidents[0].state is IncidentState.RESOLVED
    assert world.store.journal.recent() == ()


def test_a_crash_loop_that_nothing_may_be_done_about_is_one_incident():
    world = World(web())
    world.store.limits.set_switch("observe", True, "a person", "looking first", world.clock.now())
    for _ in range(4):
        world.health.kinds["web1"] = REFUSED
        world.rounds(8)
        world.health.kinds["web1"] = OK
        world.rounds(12)

    (incident,) = world.incidents
    assert incident.state is IncidentState.BLOCKED


def test_nothing_is_begun_for_what_answers_again_although_its_incident_waits():
    world = World(web())
    world.store.limits.set_switch("observe", True, "a person", "looking first", world.clock.now())
    world.health.kinds["web1"] = REFUSED
    world.rounds(3)
    world.health.kinds["web1"] = OK
    world.store.limits.set_switch("observe", False, "a person", "now", world.clock.now())
    world.rounds(5)
    assert world.incidents[0].state is IncidentState.BLOCKED
    assert world.store.journal.recent() == ()

    world.health.kinds["web1"] = REFUSED
    world.rounds(2)

    assert world.incidents[0].state is IncidentState.RECOVERING


def test_what_is_not_yet_trusted_again_or_slow_is_not_told_as_a_healthy_system():
    world = World(web())
    world.store.limits.set_switch("observe", True, "a person", "looking first", world.clock.now())
    world.health.kinds["web1"] = REFUSED
    world.rounds(3)
    world.health.kinds["web1"] = OK
    world.rounds(2)

    told = world.detect_and_recover("web", judge_within_s=0.0)
    assert not told.success
    assert "answers again, not for long enough to be trusted" in told.message

    world.rounds(30)
    assert world.detect_and_recover("web", judge_within_s=0.0).success
    world.health.rtts["web1"] = 0.2
    world.rounds(12)

    told = world.detect_and_recover("web", judge_within_s=0.0)
    assert (told.success, told.message) == (False, "web1: answers: in 200 ms instead of 2 ms")


def test_what_a_run_has_verified_is_trusted_at_once():
    world = World(web())
    world.health.kinds["web1"] = REFUSED
    world.rounds(3)
    world.health.kinds["web1"] = OK
    world.drive()

    (finding,) = world.rounds(1)

    assert {v.state for v in finding.verdicts} == {VerdictState.HEALTHY}


def test_the_stop_switch_keeps_everything_from_starting():
    world = World(web())
    world.store.limits.set_switch("stop", True, "a person", "hands off", world.clock.now())
    world.health.kinds["web1"] = REFUSED
    world.rounds(4)

    assert world.store.journal.recent() == ()


def test_with_one_vantage_nothing_is_done():
    world = World(web())
    world.health.vantages = ("h1/a",)
    world.health.kinds["web1"] = REFUSED
    found = world.rounds(6)

    assert world.incidents == ()
    assert {v.state for v in found[-1].verdicts} == {VerdictState.BLIND}


def test_a_dead_primary_is_failed_over_before_its_standbys_are_looked_after():
    world = World(database())
    world.cluster()
    world.health.kinds["pg1"] = REFUSED
    world.health.facts["pg1"] = {"agent": None}
    for node in ("pg2", "pg3"):
        world.health.facts[node] = {
            "in_recovery": True,
            "receiving": False,
            "agent": {"postmaster": "running"},
        }
    world.rounds(4)

    (incident,) = world.incidents
    assert incident.kind is IncidentKind.PRIMARY_DOWN
    assert world.broker.messages[0].task == "ha.step.open_epoch"


def failed_over():
    world = World(database())
    world.cluster()
    world.health.kinds["pg1"] = REFUSED
    world.rounds(3)
    world.drive()
    world.store.clusters.advance(
        "db", 1, world.clock.now(), new_epoch=True, primary="pg2", sets=[sync_set_of(["pg3"])]
    )
    for node in ("pg1", "pg3"):
        world.health.facts[node] = {"in_recovery": True, "receiving": True, "agent": None}
    return world


def test_after_a_failover_the_incident_is_mitigated_until_redundancy_is_back():
    world = failed_over()

    (incident,) = world.incidents
    assert incident.state is IncidentState.MITIGATED

    world.health.kinds["pg1"] = OK
    world.rounds(12)
    assert world.store.incidents.get(incident.id).state is IncidentState.MITIGATED
    world.store.clusters.advance(
        "db", 2, world.clock.now(), new_epoch=False, sets=[sync_set_of(["pg1", "pg3"])]
    )
    world.rounds(1)
    assert world.store.incidents.get(incident.id).state is IncidentState.RESOLVED
    said = [entry.text for entry in world.store.incidents.timeline(incident.id)]
    assert said[-1].endswith("going back is up to you: ha-tasks switchover db --to pg1")


def test_a_new_primary_that_fails_before_redundancy_is_back_is_an_incident_of_its_own():
    world = failed_over()
    first = world.incidents[0]
    world.store.limits.acknowledge("db", world.clock.now(), "a person")
    world.clock.advance(world.platform.policies.just_promoted_s)
    world.health.kinds["pg2"] = REFUSED
    world.rounds(4)

    second = next(i for i in world.incidents if i.kind is IncidentKind.PRIMARY_DOWN and i.id != first.id)
    assert second.instance == "pg2"
    assert second.state is IncidentState.RECOVERING
    assert world.store.incidents.get(first.id).state is IncidentState.RESOLVED


def test_a_slow_observer_does_not_take_back_what_a_quick_one_has_begun():
    """It read the incident as open, and then found the other's run on the scope."""
    world = World(web())
    world.health.kinds["web1"] = REFUSED
    world.store.limits.set_switch("observe", True, "a person", "first", world.clock.now())
    world.rounds(3)
    world.store.limits.set_switch("observe", False, "a person", "then", world.clock.now())
    slow, quick = world.observer("h1/slow"), world.observer("h2/quick")
    services = list(world.platform.services.values())
    gather = slow._starter._guards.gather

    def while_the_quick_one_starts(*args, **more):
        slow._starter._guards.gather = gather
        quick.react(quick.judge(services))
        return gather(*args, **more)

    slow._starter._guards.gather = while_the_quick_one_starts
    slow.react(slow.judge(services))

    (incident,) = world.incidents
    assert incident.state is IncidentState.RECOVERING
    assert len(world.store.journal.recent()) == 1


def test_the_old_primary_waits_for_its_host_before_it_is_rejoined():
    world = failed_over()
    world.rounds(12)
    lost = world.incidents[0]
    assert lost.kind is IncidentKind.STANDBY_DOWN
    assert lost.state is IncidentState.BLOCKED

    world.health.facts["pg1"] = {"agent": {"postmaster": "absent"}}
    world.rounds(1)
    assert world.store.incidents.get(lost.id).state is IncidentState.RECOVERING
    assert world.store.journal.recent()[0].plan.playbook == "postgres-rejoin"


def test_a_rolled_back_run_escalates_and_the_standing_failure_opens_nothing_new():
    world = World(database())
    world.cluster()
    world.health.kinds["pg1"] = REFUSED
    world.actions["revoke_standbys"].fail = [NotSafe("R + W <= N")]
    world.rounds(3)
    world.drive()
    world.rounds(6)

    (incident,) = world.incidents
    assert incident.state is IncidentState.ESCALATED
    assert world.store.journal.get(incident.run).state is RunState.ROLLED_BACK

    world.health.kinds["pg1"] = OK
    world.rounds(3)
    world.health.kinds["pg1"] = REFUSED
    world.rounds(4)
    assert len(world.incidents) == 2


def steps_told(world, **trouble):
    """The lines about steps in the story of a failover of which ``revoke_standbys`` fails."""
    world.cluster()
    world.health.kinds["pg1"] = REFUSED
    for name, value in trouble.items():
        setattr(world.actions["revoke_standbys"], name, value)
    world.rounds(3)
    world.drive()
    story = [entry.text for entry in world.store.incidents.timeline(world.incidents[0].id)]
    return [line for line in story if line.endswith("revoke_standbys") or line.startswith(("rev", "undo"))]


def test_a_step_that_failed_and_was_undone_is_told_as_both():
    told = steps_told(World(database()), fail=[NotSafe("R + W <= N")])

    assert told == ["revoke_standbys failed: R + W <= N", "undid revoke_standbys"]


def test_a_way_back_that_failed_is_told_as_that():
    told = steps_told(
        World(database()), fail=[NotSafe("R + W <= N")], fail_undo=[ActionFailed("the disk is full")] * 9
    )

    assert told == ["revoke_standbys failed: R + W <= N", "undoing revoke_standbys failed: the disk is full"]


def test_an_incident_follows_its_run_even_if_the_executor_died_before_it_could_tell():
    world = World(web())
    world.health.kinds["web1"] = REFUSED
    world.rounds(3)
    world.orchestrator._settled = lambda before, after: None
    world.drive()
    assert world.incidents[0].state is IncidentState.RECOVERING

    world.follower.follow_all()

    assert world.incidents[0].state is IncidentState.RESOLVED


def test_detect_and_recover_of_a_healthy_system_says_so():
    result = World(web()).detect_and_recover()

    assert result.success
    assert result.message == "System healthy"


def test_detect_and_recover_takes_a_dead_instance_to_its_verified_end():
    world = World(web())
    world.health.kinds["web1"] = REFUSED
    world.broker.away = True
    world.actions["verify_service"].do = lambda ctx: {"performance": 0.5, "data_integrity": None}

    result = world.detect_and_recover("web")

    assert result.success
    assert result.services_recovered == ("web",)
    assert result.recovery_time is not None
    assert result.performance_restored == 0.5
    assert result.data_integrity_verified is None


def test_detect_and_recover_with_too_few_vantages_does_not_call_the_system_healthy():
    world = World(web())
    world.health.vantages = ("h1/a",)

    result = world.detect_and_recover()

    assert not result.success
    assert "1 of 2 vantages" in result.message


def test_detect_and_recover_names_what_a_guard_refused():
    world = World(web())
    world.store.limits.set_switch("stop", True, "a person", "hands off", world.clock.now())
    world.health.kinds["web1"] = REFUSED

    result = world.detect_and_recover("web")

    assert not result.success
    assert "web1" in result.message


def verdict(name, state, score):
    target = Target(service="web", instance=name)
    return Verdict(target=target, state=VerdictState(state), evidence="", score=score)


def test_time_in_which_nobody_looked_is_unknown_time():
    world = World(web())
    world.rounds(4)
    last = world.clock.now()
    world.clock.advance(600)
    world.rounds(1)

    states = [(i.state, i.since) for i in world.store.ledger.intervals(world.clock.start)]
    assert states[-2:] == [("unknown", last), ("available", world.clock.now())]


@pytest.mark.parametrize(
    ("serving", "expected"),
    [
        ({"web1": ("healthy", 1.0), "web2": ("healthy", 1.0)}, ("available", 1.0)),
        ({"web1": ("failed", 0.0), "web2": ("healthy", 1.0)}, ("degraded", 0.5)),
        ({"web1": ("suspect", 0.0), "web2": ("suspect", 0.0)}, None),
        ({"web1": ("failed", 0.0), "web2": ("suspect", 0.0)}, None),
        ({"web1": ("failed", 0.0), "web2": ("failed", 0.0)}, ("unavailable", 0.0)),
        ({"web1": ("blind", None), "web2": ("healthy", 1.0)}, ("unknown", None)),
        ({}, ("unknown", None)),
    ],
)
def test_what_the_ledger_is_told(serving, expected):
    """A failure that is not confirmed tells it nothing; blindness is never taken for health."""
    verdicts = [verdict(name, state, score) for name, (state, score) in serving.items()]
    health = service_health(web(), {v.target.instance: v.score for v in verdicts}, list(serving))

    assert ledger_entry(health, verdicts) == expected


def test_a_database_without_its_primary_is_down_since_its_first_failed_probe():
    world = World(database())
    world.cluster()
    world.rounds(4)
    world.health.kinds["pg1"] = REFUSED
    since = world.clock.now() + timedelta(seconds=0.5)
    world.rounds(3)

    standing = [i for i in world.store.ledger.intervals(world.clock.now()) if i.until is None]
    assert [(i.state, i.since) for i in standing] == [("unavailable", since)]


def test_what_a_person_is_only_told_of_is_neither_recovered_nor_resolved_by_the_detector():
    world = World(web())
    now = world.clock.now()
    told, _ = world.store.incidents.open(
        key="web/web1/replication_fault/slot_holds_wal",
        service="web",
        instance="web1",
        kind=IncidentKind.REPLICATION_FAULT,
        severity="warning",
        summary="a slot holds WAL",
        fault_at=now,
        now=now,
        actor=ACTOR,
        evidence={},
    )
    world.rounds(3)

    assert world.store.incidents.get(told.id).state is IncidentState.OPEN
    assert world.store.journal.recent() == ()
    assert world.detect_and_recover("web").success
