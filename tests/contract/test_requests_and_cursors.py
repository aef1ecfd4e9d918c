"""The contract of the book of requests and of the event cursors: on all three stores."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ha_tasks.ports.requests import order_key
from tests.contract.conftest import AnyStore
from tests.plans import NOW, at, new_run

KEY = "shop-4711"
ASKED = {"key": KEY, "sha256": "a" * 64, "body": {"v": 1, "service": "web"}, "requested_by": "shop"}


def test_a_request_is_written_down_once(store: AnyStore):
    first, new = store.requests.receive(**ASKED, now=NOW)
    other = ASKED | {"sha256": "b" * 64, "body": {"v": 1, "service": "db"}, "requested_by": "mallory"}
    again, new_again = store.requests.receive(**other, now=at(5))

    assert (new, new_again) == (True, False)
    assert again == first == store.requests.get(KEY)
    assert (first.sha256, first.body, first.received_at) == ("a" * 64, ASKED["body"], NOW)
    assert (first.answer, first.run) == (None, None)


def test_the_first_answer_stands(store: AnyStore):
    store.requests.receive(**ASKED, now=NOW)

    assert store.requests.answer(KEY, {"state": "refused"}, None) == {"state": "refused"}
    assert store.requests.answer(KEY, {"state": "pending"}, 7) == {"state": "refused"}

    assert store.requests.get(KEY).answer == {"state": "refused"}
    assert store.requests.get(KEY).run is None


def test_the_run_is_found_even_when_nobody_lived_to_answer(store: AnyStore):
    store.requests.receive(**ASKED, now=NOW)
    run, _ = store.journal.create(new_run(key=order_key(KEY)), NOW)

    assert store.requests.get(KEY).run == run.id
    assert store.requests.receive(**ASKED, now=at(1))[0].run == run.id


def test_a_request_that_was_never_made_is_not_there(store: AnyStore):
    with pytest.raises(KeyError):
        store.requests.get(KEY)
    with pytest.raises(KeyError):
        store.requests.answer(KEY, {}, None)


def test_a_cursor_begins_once(store: AnyStore):
    first = store.cursors.begin("pager", 40, NOW)
    again = store.cursors.begin("pager", 99, at(1))

    assert again == first
    assert (first.seq, first.attempts, first.due_at, first.error) == (40, 0, NOW, "")
    assert [c.name for c in store.cursors.all()] == ["pager"]


def test_one_of_two_gets_the_cursor_until_its_time_is_over(store: AnyStore):
    store.cursors.begin("pager", 40, NOW)

    held = store.cursors.claim("pager", NOW, 10.0)

    assert held is not None
    assert held.due_at == NOW + timedelta(seconds=10)
    assert store.cursors.claim("pager", at(9), 10.0) is None
    assert store.cursors.claim("pager", at(10), 10.0) is not None
    assert store.cursors.claim("nobody", NOW, 10.0) is None


def test_whoever_holds_the_cursor_moves_it_and_nobody_else(store: AnyStore):
    store.cursors.begin("pager", 40, NOW)
    late = store.cursors.claim("pager", NOW, 10.0)
    held = store.cursors.claim("pager", at(20), 10.0)

    assert not store.cursors.move(late, seq=41, attempts=0, due_at=at(21), error="", now=at(21))
    assert store.cursors.move(held, seq=43, attempts=2, due_at=at(25), error="HTTP 503", now=at(21))

    (cursor,) = store.cursors.all()
    assert (cursor.seq, cursor.attempts, cursor.due_at, cursor.error) == (43, 2, at(25), "HTTP 503")
    assert cursor.changed_at == at(21)
    assert not store.cursors.move(held, seq=50, attempts=0, due_at=at(21), error="", now=at(22))
