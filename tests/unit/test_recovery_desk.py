"""The recovery desk on fakes: what is asked for, what is answered, and that it happens once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

import ha_tasks
from ha_tasks.disaster_recovery.playbooks import load_playbooks
from ha_tasks.disaster_recovery.recovery_planner import RecoveryPlanner
from ha_tasks.model.incident import IncidentKind, IncidentState
from ha_tasks.model.platform import ManagedBy
from ha_tasks.model.probe import OutcomeKind
from ha_tasks.model.request import parse_request
from ha_tasks.model.run import RunState
from ha_tasks.names import Counter
from ha_tasks.ports.requests import order_key
from ha_tasks.workflows.guard_facts import GuardFactsGatherer
from ha_tasks.workflows.requests import RecoveryDesk
from tests.unit.builders import database, web
from tests.unit.test_detection import ACTOR, World

ANSWER = jsonschema.Draft202012Validator(
    json.loads((Path(ha_tasks.__file__).parent / "contract/recovery-answer.schema.json").read_text())
)


def desk(world: World) -> RecoveryDesk:
    store = world.store
    return RecoveryDesk(
        platform=world.platform,
        detection=world.detection,
        planner=RecoveryPlanner(world.platform, load_playbooks(())),
        guards=GuardFactsGatherer(platform=world.platform, sources=store, clock=world.clock),
        starter=world.starter(ACTOR),
        book=store.requests,
        incidents=store.incidents,
        journal=store.journal,
        ledger=store.ledger,
        clock=world.clock,
        actor=ACTOR,
    )


def body(**changes):
    asked = {
        "v": 1,
        "service": "web",
        "kind": "restart",
        "scope": "web1",
        "reason": "its memory grows",
        "requested_by": "shop/ana",
        "idempotency_key": "shop-4711",
    }
    return {key: value for key, value in (asked | changes).items() if value is not None}


def failover(**changes):
    return body(**({"service": "db", "kind": "failover", "scope": None} | changes))


def asked(world: World, **changes):
    return checked(desk(world).request(body(**changes)))


def checked(answer):
    ANSWER.validate(answer)
    assert json.loads(json.dumps(answer)) == answer
    return answer


def look_until_sure(world: World) -> None:
    """Observers have looked for a while."""
    for _ in range(12):
        world.detection.look(list(world.platform.services.values()))
        world.clock.advance(0.5)


@pytest.fixture
def world() -> World:
    made = World(web())
    look_until_sure(made)
    return made


@pytest.fixture
def cluster() -> World:
    made = World(database())
    made.cluster()
    look_until_sure(made)
    return made


def answers(world: World) -> dict[str, float]:
    return {
        json.loads(labels)["answer"]: value
        for (name, labels), value in world.store.ledger.counters.items()
        if name == Counter.REQUESTS
    }


def test_a_healthy_instance_is_restarted_on_request(world: World):
    answer = asked(world)

    run = world.store.journal.get(answer["run"])
    incident = world.store.incidents.get(answer["incident"])
    assert (answer["state"], answer["duplicate"], answer["refused"]) == ("pending", False, None)
    assert (run.mode, run.requested_by, run.reason) == ("manual", "shop/ana", "its memory grows")
    assert run.plan.targets == ("web1",)
    assert (incident.kind, incident.severity, incident.state) == (
        IncidentKind.INSTANCE_DOWN,
        "info",
        IncidentState.RECOVERING,
    )
    assert incident.evidence["requested_by"] == "shop/ana"
    assert len(world.broker.messages) == 1
    assert answers(world) == {"accepted": 1}


def test_the_same_key_and_body_come_to_the_same_run(world: World):
    first = asked(world)
    again = asked(world)

    assert again == first | {"duplicate": True}
    assert len(world.store.journal.entries) == 1
    assert answers(world) == {"accepted": 1, "duplicate": 1}


def test_the_same_key_with_another_body_is_a_conflict(world: World):
    asked(world)
    answer = asked(world, reason="another one")

    assert (answer["state"], answer["run"], answer["duplicate"]) == ("conflict", None, True)
    assert len(world.store.journal.entries) == 1


def test_a_worker_that_dies_between_run_and_answer_is_taken_up_by_the_next(world: World):
    """The run is there, the answer is not: the journal knows it by the key."""
    first = asked(world)
    kept = world.store.requests.kept["shop-4711"]
    world.store.requests.kept["shop-4711"] = replace(kept, answer=None, run=None)

    again = asked(world)

    assert again["run"] == first["run"]
    assert len(world.store.journal.entries) == 1


def test_a_refusal_by_the_run_of_the_same_request_is_no_refusal(world: World):
    """Two workers have the same message: the slower one finds the scope taken, by its own request."""
    slow, quick = desk(world), desk(world)
    look = world.health.look

    def look_and_be_overtaken(services):
        world.health.look = look
        quick.request(body())
        kept = world.store.requests.kept["shop-4711"]
        world.store.requests.kept["shop-4711"] = replace(kept, answer=None, run=None)
        # The slower one judges by what it read before the incident was opened.
        world.store.incidents.lines_hidden = world.store.incidents.current
        world.store.incidents.current = lambda: ()
        return look(services)

    world.health.look = look_and_be_overtaken
    answer = checked(slow.request(body()))

    assert (answer["run"], answer["refused"], answer["duplicate"]) == (1, None, False)
    assert len(world.store.journal.entries) == 1


def test_a_worker_that_dies_before_the_run_is_taken_up_by_the_next(world: World):
    request = desk(world)
    made, _ = parse_request(body())
    world.store.requests.receive(
        key="shop-4711",
        sha256=made.sha256(),
        body=made.to_json(),
        requested_by="shop/ana",
        now=world.clock.now(),
    )

    assert checked(request.status({"v": 1, "idempotency_key": "shop-4711"}))["state"] == "received"
    assert asked(world)["run"] == 1


def test_a_dry_run_says_the_plan_and_changes_nothing(world: World):
    answer = asked(world, dry_run=True)

    assert answer["state"] == "rehearsed"
    assert [step["id"] for step in answer["plan"]["steps"]][:2] == ["take_out", "spare_in"]
    assert answer["plan"]["targets"] == ["web1"]
    assert (answer["refused"], answer["run"], answer["incident"]) == (None, None, None)
    store = world.store
    assert (store.journal.entries, store.incidents.incidents, store.requests.kept) == ({}, {}, {})


def test_a_dry_run_names_the_guard_that_would_refuse(world: World):
    world.store.limits.set_switch("stop", True, "anna", "racks move", world.clock.now())

    answer = asked(world, dry_run=True)

    assert answer["refused"]["guard"] == "stop_switch"
    assert "by anna" in answer["refused"]["detail"]
    assert answer["plan"] is not None
    assert world.store.limits.refusals == {}


def test_a_refusal_leaves_no_incident_and_stands_for_its_key(world: World):
    world.store.limits.set_switch("stop", True, "anna", "racks move", world.clock.now())
    refused = asked(world)
    world.store.limits.set_switch("stop", False, "anna", "done", world.clock.now())

    assert (refused["state"], refused["refused"]["guard"]) == ("refused", "stop_switch")
    assert world.store.incidents.incidents == {}
    assert asked(world) == refused | {"duplicate": True}
    assert asked(world, idempotency_key="shop-4712")["run"] == 1
    assert answers(world) == {"refused": 1, "duplicate": 1, "accepted": 1}


def test_a_refusal_about_a_standing_incident_is_written_down_with_it(world: World):
    world.health.kinds["web1"] = OutcomeKind.REFUSED
    world.store.limits.set_switch("stop", True, "anna", "racks move", world.clock.now())
    look_until_sure(world)
    world.detection.react(world.detection.judge([web()]))

    answer = asked(world)

    assert answer["refused"]["guard"] == "stop_switch"
    assert world.store.incidents.get(answer["incident"]).state is IncidentState.BLOCKED
    assert world.store.limits.refusals == {(answer["incident"], "stop_switch"): 2}


def test_a_request_joins_the_run_that_detection_has_started(world: World):
    world.health.kinds["web1"] = OutcomeKind.REFUSED
    look_until_sure(world)
    (run,) = world.detection.react(world.detection.judge([web()])).started

    answer = asked(world)

    assert (answer["run"], answer["incident"]) == (run.id, run.incident)
    assert len(world.store.incidents.incidents) == 1
    assert checked(desk(world).status({"v": 1, "idempotency_key": "shop-4711"}))["run"] == run.id


def test_without_a_scope_the_failed_instance_is_meant(world: World):
    world.health.kinds["web2"] = OutcomeKind.REFUSED
    look_until_sure(world)

    answer = asked(world, scope=None)

    assert world.store.journal.get(answer["run"]).plan.targets == ("web2",)


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"service": "wbe"}, ("service", 'did you mean "web"?')),
        ({"scope": "web9"}, ("scope", 'did you mean "web3"?')),
        ({"scope": None}, ("scope", "one of web1, web2, web3")),
        ({"kind": "restrat"}, ("kind", None)),
        ({"idempotence_key": "x"}, ("idempotence_key", 'did you mean "idempotency_key"?')),
    ],
)
def test_what_is_wrong_is_said_by_field_with_its_mending(world: World, changes, wrong):
    answer = asked(world, **changes)

    assert answer["state"] == "invalid"
    (error,) = answer["errors"]
    assert error["field"] == wrong[0]
    assert wrong[1] in (None, error["mending"])
    assert world.store.journal.entries == {}


@pytest.mark.parametrize("kind", ["restore", "rollback", "drain", "shift", "failover", "rejoin"])
def test_what_no_playbook_is_for_is_refused_clearly(world: World, kind):
    answer = asked(world, kind=kind)

    assert answer["refused"] == {
        "guard": "no_playbook",
        "detail": f"no playbook is for {kind} of web (http); there is: restart",
    }


def test_a_service_of_somebody_else_is_not_acted_on():
    world = World(replace(web(), managed_by=ManagedBy.EXTERNAL))
    look_until_sure(world)

    answer = asked(world)

    assert answer["refused"]["guard"] == "no_playbook"
    assert "led by others" in answer["refused"]["detail"]


def test_another_playbook_than_the_named_one_is_refused(world: World):
    assert asked(world, playbook="postgres-failover")["refused"]["guard"] == "other_playbook"
    assert asked(world, playbook="http-instance", idempotency_key="shop-4712")["run"] == 1


def test_a_deadline_that_has_passed_is_refused(world: World):
    made, _ = parse_request(body(deadline_s=5))
    world.store.requests.receive(
        key="shop-4711",
        sha256=made.sha256(),
        body=made.to_json(),
        requested_by="shop/ana",
        now=world.clock.now(),
    )
    world.clock.advance(60)
    look_until_sure(world)

    assert asked(world, deadline_s=5)["refused"] == {
        "guard": "deadline",
        "detail": "it could not begin within 5 s of its receipt",
    }


def test_a_primary_that_answers_is_not_failed_over_whatever_the_evidence(cluster: World):
    answer = checked(desk(cluster).request(failover(evidence={"seen": "connection refused"})))

    assert answer["refused"] == {
        "guard": "target_answers",
        "detail": "pg1 answers: a planned change is a switchover",
    }
    assert cluster.store.journal.entries == {}


def test_a_dead_primary_is_failed_over(cluster: World):
    cluster.health.kinds["pg1"] = OutcomeKind.REFUSED
    look_until_sure(cluster)

    answer = checked(desk(cluster).request(failover(evidence={"seen": "refused"})))

    incident = cluster.store.incidents.get(answer["incident"])
    assert cluster.store.journal.get(answer["run"]).plan.playbook == "postgres-failover"
    assert (incident.kind, incident.severity) == (IncidentKind.PRIMARY_DOWN, "critical")
    assert incident.evidence["reported"] == {"seen": "refused"}


def test_a_standby_is_not_what_fails_over(cluster: World):
    (error,) = checked(desk(cluster).request(failover(scope="pg2")))["errors"]

    assert (error["field"], error["mending"]) == ("scope", "leave it out, or write pg1")


def test_a_standby_that_follows_needs_no_rejoin(cluster: World):
    rejoin = failover(kind="rejoin", scope="pg2")
    other = rejoin | {"scope": "pg1", "idempotency_key": "shop-4712"}

    assert checked(desk(cluster).request(rejoin))["refused"] == {
        "guard": "target_answers",
        "detail": "pg2 follows already",
    }
    (error,) = checked(desk(cluster).request(other))["errors"]
    assert error["problem"] == "is the primary"


def test_a_failover_without_a_recorded_primary_is_refused():
    world = World(database())

    answer = checked(desk(world).request(failover()))

    assert answer["refused"]["guard"] == "target_in_doubt"


def test_too_few_vantages_are_blind_and_refuse(world: World):
    world.health.vantages = ("h1/a",)
    world.clock.advance(60)

    assert asked(world)["refused"]["guard"] == "blind"


def test_a_status_follows_the_run_to_its_end(world: World):
    answer = asked(world)
    world.orchestrator.drive(answer["run"], world.clock.now().replace(year=2030))

    for question in ({"run": answer["run"]}, {"idempotency_key": "shop-4711"}):
        status = checked(desk(world).status({"v": 1, **question}))
        assert (status["state"], status["ended"]) == (RunState.SUCCEEDED, True)
        assert {step["state"] for step in status["steps"]} == {"done"}
        assert status["error"] == ""


def test_a_status_of_nothing_is_unknown(world: World):
    for question in ({"run": 99}, {"idempotency_key": "never-asked"}):
        status = checked(desk(world).status({"v": 1, **question}))
        assert (status["state"], status["ended"]) == ("unknown", True)
    assert checked(desk(world).status({"v": 1}))["state"] == "invalid"


def test_the_key_of_a_request_is_apart_from_those_of_incidents():
    assert order_key("incident-1") != "incident-1"
