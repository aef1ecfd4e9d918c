"""The incidents' contract: on the fake, on SQLite and on PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from ha_tasks.model.incident import Incident, IncidentKind, IncidentState
from ha_tasks.ports.repositories import Incidents
from tests.contract.conftest import AnyStore
from tests.plans import NOW, at

EVERY_STATE = list(IncidentState)


def opened(incidents: Incidents, now: datetime = NOW, *, key: str = "web/web1/instance_down") -> Incident:
    """Opens an incident of that key, or finds it."""
    incident, _ = incidents.open(
        key=key,
        service="web",
        instance="web1",
        kind=IncidentKind.INSTANCE_DOWN,
        severity="critical",
        summary="web1 does not answer",
        fault_at=at(-2),
        now=now,
        actor="host/probe-a",
        evidence={"vantages": ["probe-a", "probe-b"], "refused": 3},
    )
    return incident


def told(incidents: Incidents, incident: Incident) -> list[tuple[datetime, str, str]]:
    """The timeline."""
    return [(entry.at, entry.actor, entry.text) for entry in incidents.timeline(incident.id)]


def test_an_incident_is_opened_with_its_evidence_and_a_first_line(store: AnyStore):
    incident = opened(store.incidents)

    assert store.incidents.get(incident.id) == incident
    assert (incident.state, incident.holds_key, incident.run) == (IncidentState.OPEN, True, None)
    assert (incident.fault_at, incident.detected_at) == (at(-2), NOW)
    assert (incident.mitigated_at, incident.resolved_at) == (None, None)
    assert incident.evidence == {"vantages": ["probe-a", "probe-b"], "refused": 3}
    assert told(store.incidents, incident) == [(NOW, "host/probe-a", "opened: web1 does not answer")]


def test_a_key_has_one_incident_until_it_is_resolved(store: AnyStore):
    first = opened(store.incidents)

    assert opened(store.incidents, at(1)) == first
    assert opened(store.incidents, at(1), key="web/web2/instance_down").id != first.id
    store.incidents.move(first.id, IncidentState.RESOLVED, at(2), "w1", "it answers again")
    assert opened(store.incidents, at(3)).id not in {first.id}


def test_whether_this_call_opened_it_is_told(store: AnyStore):
    def opens() -> bool:
        return store.incidents.open(
            key="db/primary_down",
            service="db",
            instance="pg1",
            kind=IncidentKind.PRIMARY_DOWN,
            severity="critical",
            summary="",
            fault_at=NOW,
            now=NOW,
            actor="a",
            evidence={},
        )[1]

    assert [opens(), opens()] == [True, False]


def test_what_is_not_there_is_a_key_error(store: AnyStore):
    for verb in (
        lambda: store.incidents.get(41),
        lambda: store.incidents.move(41, IncidentState.OPEN, NOW, "w1", ""),
        lambda: store.incidents.note(41, NOW, "w1", "?"),
        lambda: store.incidents.let_go(41, NOW, "w1", "?"),
        lambda: store.incidents.acknowledge(41, NOW, "w1"),
    ):
        with pytest.raises(KeyError):
            verb()
    assert store.incidents.timeline(41) == ()


def test_each_move_is_told_once(store: AnyStore):
    incident = opened(store.incidents)

    for second in (1, 2):
        store.incidents.move(incident.id, IncidentState.RECOVERING, at(second), "w1", "run 7 begins", run=7)

    assert told(store.incidents, incident)[1:] == [(at(1), "w1", "recovering: run 7 begins")]
    assert store.incidents.get(incident.id).run == 7


def test_a_move_without_a_run_keeps_the_one_that_is_known(store: AnyStore):
    incident = opened(store.incidents)
    store.incidents.move(incident.id, IncidentState.RECOVERING, at(1), "w1", "", run=7)

    moved = store.incidents.move(incident.id, IncidentState.VERIFYING, at(2), "w1", "")

    assert (moved.state, moved.run) == (IncidentState.VERIFYING, 7)
    assert moved == store.incidents.get(incident.id)


def test_the_times_of_mitigation_and_resolution_are_kept(store: AnyStore):
    incident = opened(store.incidents)
    store.incidents.move(incident.id, IncidentState.MITIGATED, at(1), "w1", "serving")
    store.incidents.move(incident.id, IncidentState.RECOVERING, at(2), "w1", "rejoin")
    store.incidents.move(incident.id, IncidentState.MITIGATED, at(3), "w1", "serving")

    resolved = store.incidents.move(incident.id, IncidentState.RESOLVED, at(4), "w1", "redundant again")

    assert (resolved.mitigated_at, resolved.resolved_at) == (at(1), at(4))
    assert not resolved.holds_key


@pytest.mark.parametrize("state", [s for s in EVERY_STATE if s is not IncidentState.RESOLVED])
def test_a_resolved_incident_stays_resolved(store: AnyStore, state: IncidentState):
    incident = opened(store.incidents)
    resolved = store.incidents.move(incident.id, IncidentState.RESOLVED, at(1), "w1", "")

    assert store.incidents.move(incident.id, state, at(2), "late worker", "", run=9) == resolved
    assert len(told(store.incidents, incident)) == 2


def test_an_escalated_incident_holds_its_key_until_it_is_let_go(store: AnyStore):
    incident = opened(store.incidents)
    store.incidents.move(incident.id, IncidentState.ESCALATED, at(1), "w1", "a person is called")
    assert opened(store.incidents, at(2)).id == incident.id

    for second in (3, 4):
        store.incidents.let_go(incident.id, at(second), "host/probe-a", "web1 answers again")

    assert told(store.incidents, incident)[2:] == [(at(3), "host/probe-a", "web1 answers again")]
    assert store.incidents.get(incident.id).state is IncidentState.ESCALATED
    assert opened(store.incidents, at(5)).id != incident.id


def test_only_an_escalated_incident_can_be_let_go(store: AnyStore):
    incident = opened(store.incidents)

    store.incidents.let_go(incident.id, at(1), "host/probe-a", "?")

    assert store.incidents.get(incident.id) == incident
    assert len(told(store.incidents, incident)) == 1


def test_an_escalated_incident_may_be_taken_up_again_and_holds_its_key_then(store: AnyStore):
    incident = opened(store.incidents)
    store.incidents.move(incident.id, IncidentState.ESCALATED, at(1), "w1", "")
    store.incidents.let_go(incident.id, at(2), "host/probe-a", "")

    moved = store.incidents.move(incident.id, IncidentState.RECOVERING, at(3), "anna", "by hand")

    assert (moved.state, moved.holds_key) == (IncidentState.RECOVERING, True)
    assert opened(store.incidents, at(4)).id == incident.id


def test_an_escalated_incident_whose_key_another_holds_is_not_taken_up_again(store: AnyStore):
    incident = opened(store.incidents)
    store.incidents.move(incident.id, IncidentState.ESCALATED, at(1), "w1", "")
    store.incidents.let_go(incident.id, at(2), "host/probe-a", "")
    opened(store.incidents, at(3))
    before = store.incidents.get(incident.id), told(store.incidents, incident)

    moved = store.incidents.move(incident.id, IncidentState.RECOVERING, at(4), "anna", "by hand")

    assert (moved, told(store.incidents, incident)) == before
    resolved = store.incidents.move(incident.id, IncidentState.RESOLVED, at(5), "anna", "mended")
    assert resolved.state is IncidentState.RESOLVED


def test_an_acknowledged_escalation_is_resolved(store: AnyStore):
    incident = opened(store.incidents)
    store.incidents.move(incident.id, IncidentState.ESCALATED, at(1), "w1", "")

    seen = store.incidents.acknowledge(incident.id, at(2), "anna")

    assert (seen.state, seen.resolved_at, seen.holds_key) == (IncidentState.RESOLVED, at(2), False)
    assert told(store.incidents, incident)[-1][1] == "anna"


@pytest.mark.parametrize("state", [s for s in EVERY_STATE if s is not IncidentState.ESCALATED])
def test_an_acknowledgement_is_without_effect_on_others(store: AnyStore, state: IncidentState):
    incident = opened(store.incidents)
    moved = store.incidents.move(incident.id, state, at(1), "w1", "")

    assert store.incidents.acknowledge(incident.id, at(2), "anna") == moved


def test_current_are_those_that_are_not_resolved(store: AnyStore):
    made = {state: opened(store.incidents, key=f"key/{state}") for state in EVERY_STATE}
    for state, incident in made.items():
        store.incidents.move(incident.id, state, at(1), "w1", "")

    current = {incident.state for incident in store.incidents.current()}

    assert current == set(EVERY_STATE) - {IncidentState.RESOLVED}


def test_recent_are_the_latest_newest_first(store: AnyStore):
    made = [opened(store.incidents, key=f"key/{number}").id for number in range(4)]

    assert [incident.id for incident in store.incidents.recent()] == made[::-1]
    assert [incident.id for incident in store.incidents.recent(limit=2)] == [made[3], made[2]]


def test_a_timeline_is_in_the_order_of_time_and_takes_words_from_outside(store: AnyStore):
    incident = opened(store.incidents)
    store.incidents.note(incident.id, at(9), "w1", "last")
    store.incidents.note(incident.id, at(-1), "w1", "first")
    store.incidents.note(incident.id, at(9), "w1", "after last")

    assert [text for _, _, text in told(store.incidents, incident)] == [
        "first",
        "opened: web1 does not answer",
        "last",
        "after last",
    ]


def test_what_is_to_be_told_once_is_told_once_by_however_many_at_the_same_time(store: AnyStore):
    incident, other = opened(store.incidents), opened(store.incidents, key="another")
    store.incidents.note(other.id, at(1), "w0", "started again")

    def tell(actor: str) -> None:
        store.incidents.note(incident.id, at(1), actor, "started again", once=True)

    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(tell, [f"w{n}" for n in range(4)]))
    store.incidents.note(incident.id, at(2), "w1", "started again")

    texts = [text for _, _, text in told(store.incidents, incident)]
    assert texts.count("started again") == 2


def test_an_incident_moves_only_from_the_states_that_the_caller_has_seen(store: AnyStore) -> None:
    incident = opened(store.incidents)
    store.incidents.move(incident.id, IncidentState.RECOVERING, at(1), "w1", "run 7 begins", run=7)

    left = store.incidents.move(
        incident.id, IncidentState.BLOCKED, at(2), "w2", "refused", only_from={IncidentState.OPEN}
    )

    assert left.state is IncidentState.RECOVERING
    assert told(store.incidents, incident)[-1] == (at(1), "w1", "recovering: run 7 begins")
