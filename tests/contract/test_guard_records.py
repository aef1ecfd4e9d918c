"""The contract of what guards read and write: children, cool-downs, switches, races about a waiting run."""

from __future__ import annotations

import pytest

from ha_tasks.model.cooldown import CoolDown
from ha_tasks.model.incident import IncidentState
from ha_tasks.model.run import Phase, RunState
from ha_tasks.model.switch import Switch
from tests.contract.conftest import AnyStore
from tests.contract.test_approvals import waiting_run
from tests.contract.test_repositories_concurrency import all_at_once
from tests.contract.test_repositories_incidents import opened
from tests.plans import NOW, at, new_run

OPEN = (IncidentState.OPEN, IncidentState.BLOCKED, IncidentState.SUPPRESSED)


def story(store: AnyStore, incident: int) -> list[str]:
    return [entry.text for entry in store.incidents.timeline(incident)][1:]


def test_a_child_is_suppressed_under_its_parent_and_both_stories_tell_it_once(store: AnyStore):
    parent, child = opened(store.incidents, key="db").id, opened(store.incidents, key="web").id

    for second in (1, 2):
        attached = store.incidents.attach(child, parent, at(second), "h/a", "db is down", only_from=OPEN)

    assert attached == store.incidents.get(child)
    assert (attached.state, attached.parent) == (IncidentState.SUPPRESSED, parent)
    assert story(store, child) == ["suppressed: db is down"]
    assert story(store, parent) == [f"I-{child} ({attached.instance} of {attached.service}) waits for this"]


def test_a_child_may_get_another_parent_and_keeps_the_last_one_when_it_goes_on(store: AnyStore):
    first, second = opened(store.incidents, key="db").id, opened(store.incidents, key="cache").id
    child = opened(store.incidents, key="web").id

    store.incidents.attach(child, first, at(1), "h/a", "db is down", only_from=OPEN)
    moved = store.incidents.attach(child, second, at(2), "h/a", "the cache is down", only_from=OPEN)
    assert (moved.state, moved.parent) == (IncidentState.SUPPRESSED, second)

    store.incidents.move(child, IncidentState.RECOVERING, at(3), "h/a", "run 1", run=1)
    late = store.incidents.attach(child, first, at(4), "h/slow", "db is down", only_from=OPEN)
    assert (late.state, late.parent) == (IncidentState.RECOVERING, second)


def test_nothing_is_attached_to_an_incident_that_is_not_there(store: AnyStore):
    child = opened(store.incidents, key="web").id

    for pair in ((child, 4711), (4711, child)):
        with pytest.raises(KeyError):
            store.incidents.attach(*pair, at(1), "h/a", "db is down", only_from=OPEN)
    assert store.incidents.get(child).parent is None


def test_a_cool_down_is_remembered_with_its_length_also_when_it_is_over(store: AnyStore):
    assert store.limits.cooldown("db", "failover") is None
    store.limits.cool("db", "failover", at(120), length_s=120.0)
    store.limits.cool("db", "rejoin", at(30))

    assert store.limits.cooldown("db", "failover") == CoolDown(until=at(120), length_s=120.0)
    assert store.limits.cooldown("db", "rejoin") == CoolDown(until=at(30), length_s=0.0)
    assert store.limits.cooldown("web", "failover") is None
    store.limits.acknowledge("db", at(60), "anna")
    seen = CoolDown(until=at(120), length_s=120.0, acknowledged=True)
    assert store.limits.cooldown("db", "failover") == seen


def test_every_engaged_switch_is_listed_with_who_why_and_since(store: AnyStore):
    assert store.limits.switches() == ()
    store.limits.set_switch("stop", True, "anna", "the racks move", NOW, scope="web")
    store.limits.set_switch("observe", True, "ben", "", at(5))
    store.limits.set_switch("stop", True, "carl", "", at(6))
    store.limits.set_switch("stop", False, "carl", "", at(7))

    assert store.limits.switches() == (
        Switch(name="observe", scope="", actor="ben", reason="", since=at(5)),
        Switch(name="stop", scope="web", actor="anna", reason="the racks move", since=NOW),
    )


def test_of_many_who_approve_one_begins_the_run(store: AnyStore):
    run, _ = store.journal.create(waiting_run(), NOW)

    answers = all_at_once(lambda n: store.journal.approve(run.id, f"person {n}", at(5)))

    (message,) = [answer for answer in answers if answer is not None]
    assert message.kwargs["run"] == run.id


def test_of_those_who_approve_and_those_who_reject_one_is_heard(store: AnyStore):
    run, _ = store.journal.create(waiting_run(), NOW)

    def answered(number: int) -> object:
        if number % 2:
            return store.journal.approve(run.id, f"person {number}", at(5))
        return store.journal.call_off(run.id, "no", at(5), f"person {number}")

    heard = [answer for answer in all_at_once(answered) if answer is not None]
    ended = store.journal.get(run.id)

    # A run that was approved may still be called off until somebody claims it, but never the other way.
    assert ended.state in (RunState.PENDING, RunState.ABORTED)
    assert len(heard) == (1 if ended.approved_by is None or ended.state is RunState.PENDING else 2)


def test_a_run_is_either_claimed_or_called_off(store: AnyStore):
    run, _ = store.journal.create(new_run(), NOW)

    def either(number: int) -> object:
        if number % 2:
            return store.journal.claim(run.id, 1, Phase.DO, owner=f"w{number}", now=at(1), lease_s=3)
        return store.journal.call_off(run.id, "its deadline passed", at(1), f"sweeper {number}")

    (won,) = [answer for answer in all_at_once(either) if answer is not None]
    assert store.journal.get(run.id) == won
