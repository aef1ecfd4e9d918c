"""The contract of maintenance windows: on all three stores."""

from __future__ import annotations

import pytest

from ha_tasks.model.maintenance import weekly
from ha_tasks.ports.maintenance import NewWindow
from tests.contract.conftest import AnyStore
from tests.plans import NOW, at

WEEKLY = NewWindow(scope="db", actor="anna", reason="disks", rule=weekly("sat 02:00-04:00", "Europe/Berlin"))
ONCE = NewWindow(scope="", actor="ben", reason="", starts_at=at(10), ends_at=at(60))


def test_a_window_comes_back_as_it_was_announced(store: AnyStore):
    first, second = store.maintenance.add(WEEKLY, NOW), store.maintenance.add(ONCE, at(1))

    assert second.id > first.id
    assert (first.scope, first.actor, first.reason, first.rule) == ("db", "anna", "disks", WEEKLY.rule)
    assert (second.starts_at, second.ends_at, second.rule, second.created_at) == (at(10), at(60), None, at(1))
    assert store.maintenance.standing(at(2)) == (first, second)


def test_a_window_of_once_stands_until_its_end_and_a_weekly_one_for_ever(store: AnyStore):
    weekly_one, once = store.maintenance.add(WEEKLY, NOW), store.maintenance.add(ONCE, NOW)

    assert store.maintenance.standing(at(59.9)) == (weekly_one, once)
    assert store.maintenance.standing(at(60)) == (weekly_one,)


def test_a_window_that_was_ended_stands_no_more_and_names_who_ended_it_first(store: AnyStore):
    window = store.maintenance.add(WEEKLY, NOW)

    ended = store.maintenance.end(window.id, at(5), "carl")

    assert (ended.ended_at, ended.ended_by) == (at(5), "carl")
    assert store.maintenance.end(window.id, at(9), "dora") == ended
    assert store.maintenance.standing(at(5)) == ()


def test_a_window_that_does_not_exist_cannot_be_ended(store: AnyStore):
    with pytest.raises(KeyError):
        store.maintenance.end(41, NOW, "anna")


def test_what_is_announced_and_ended_is_told_to_the_audit_chain_once(store: AnyStore):
    window = store.maintenance.add(WEEKLY, NOW)
    for _ in range(2):
        store.maintenance.end(window.id, at(5), "carl")

    told = [(e.actor, e.verb, e.object) for e in store.audit.after(0, 10)]
    assert told == [
        ("anna", "maintenance.added", f"maintenance {window.id}"),
        ("carl", "maintenance.ended", f"maintenance {window.id}"),
    ]
