"""Telling events: in order, at least once, and nobody waits for somebody else's endpoint."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ha_tasks.model.event import Event, pause_s, too_old, wanted
from ha_tasks.names import Counter
from ha_tasks.workflows.events import HOLD_S, Destination, EventPublisher
from tests.fakes.clock import FakeClock
from tests.fakes.events import FakeEventSink
from tests.fakes.repositories import FakeStore
from tests.plans import NOW, at


class Post:
    """A publisher on fakes, with two destinations."""

    def __init__(self) -> None:
        self.store, self.clock = FakeStore(), FakeClock()
        self.pager, self.exchange = FakeEventSink(), FakeEventSink()
        self.publisher = EventPublisher(
            destinations=[
                Destination(name="exchange", events=("*",), sink=self.exchange),
                Destination(name="pager", events=("incident.*",), sink=self.pager),
            ],
            audit=self.store.audit,
            cursors=self.store.cursors,
            ledger=self.store.ledger,
            clock=self.clock,
        )
        self.publisher.publish()

    def happen(self, *verbs: str) -> None:
        for verb in verbs:
            self.store.audit.append(actor="h/a", verb=verb, object="I-1", now=self.clock.now())

    def cursor(self, name: str):
        return next(c for c in self.store.cursors.all() if c.name == name)

    def counted(self, counter: Counter) -> dict[str, float]:
        return {
            series.labels["destination"]: series.value
            for series in self.store.ledger.series()
            if series.name == counter
        }


@pytest.fixture
def post() -> Post:
    return Post()


def seqs(sink: FakeEventSink) -> list[int]:
    return [event.seq for event in sink.taken]


def test_events_are_told_once_in_order_to_whoever_asked_for_them(post: Post):
    post.happen("incident.opened", "run.created", "cluster.advanced", "incident.resolved")

    assert post.publisher.publish() == {"exchange": 3, "pager": 2}
    assert post.publisher.publish() == {"exchange": 0, "pager": 0}

    assert seqs(post.exchange) == [1, 2, 4]
    assert seqs(post.pager) == [1, 4]
    assert post.cursor("pager").seq == 4
    assert post.counted(Counter.EVENTS_DELIVERED) == {"exchange": 3, "pager": 2}


def test_a_new_destination_begins_with_what_happens_from_now_on():
    post = Post()
    post.happen("incident.opened")
    late = FakeEventSink()
    publisher = EventPublisher(
        destinations=[Destination(name="late", events=("*",), sink=late)],
        audit=post.store.audit,
        cursors=post.store.cursors,
        ledger=post.store.ledger,
        clock=post.clock,
    )
    publisher.publish()
    post.happen("incident.resolved")

    assert publisher.publish() == {"late": 1}
    assert seqs(late) == [2]


def test_nothing_new_writes_nothing(post: Post):
    before = post.store.cursors.all()
    post.clock.advance(60)

    post.publisher.publish()

    assert post.store.cursors.all() == before


def test_an_endpoint_that_is_away_holds_up_only_itself_and_is_asked_less_and_less(post: Post):
    post.pager.failing = True
    post.happen("incident.opened")
    pauses = []
    for _ in range(4):
        post.publisher.publish()
        cursor = post.cursor("pager")
        pauses.append((cursor.due_at - post.clock.now()).total_seconds())
        assert post.publisher.publish()["pager"] == 0
        assert post.cursor("pager") == cursor
        post.clock.advance(pauses[-1])
    post.happen("incident.resolved")
    post.pager.failing = False

    assert pauses == [1, 2, 4, 8]
    assert seqs(post.exchange) == [1]
    assert post.publisher.publish() == {"exchange": 1, "pager": 2}
    assert seqs(post.pager) == [1, 2]
    assert (post.cursor("pager").attempts, post.cursor("pager").error) == (0, "")
    assert post.counted(Counter.EVENT_FAILURES) == {"pager": 4}


def test_what_was_taken_before_a_failure_is_not_told_again(post: Post):
    post.happen("incident.opened", "incident.recovering", "incident.resolved")
    post.pager.refuses = {2}
    post.publisher.publish()
    cursor = post.cursor("pager")
    assert (cursor.seq, cursor.attempts, cursor.error) == (1, 1, "HTTP 503")

    post.pager.refuses = set()
    post.clock.advance(1)
    post.publisher.publish()

    assert seqs(post.pager) == [1, 2, 3]


def test_an_event_that_nobody_takes_for_a_day_is_given_up_and_the_next_ones_follow(post: Post):
    post.happen("incident.opened")
    post.pager.refuses = {1}
    post.publisher.publish()
    post.clock.advance(timedelta(hours=24).total_seconds() + 1)
    post.happen("incident.resolved")

    assert post.publisher.publish()["pager"] == 0
    assert post.cursor("pager").error == "gave up on 1: HTTP 503"
    assert post.publisher.publish()["pager"] == 1
    assert seqs(post.pager) == [2]
    assert post.counted(Counter.EVENTS_GIVEN_UP) == {"pager": 1}


def test_a_publisher_that_died_is_followed_by_the_next_one(post: Post):
    post.happen("incident.opened")
    post.store.cursors.claim("pager", post.clock.now(), HOLD_S)

    assert post.publisher.publish()["pager"] == 0
    post.clock.advance(HOLD_S)
    assert post.publisher.publish()["pager"] == 1


def test_a_publisher_that_was_overtaken_does_not_move_the_cursor_back(post: Post):
    """It slept beyond its time while another went on: an event may come twice, none is lost."""
    post.happen("incident.opened", "incident.resolved")
    inner = post.pager.deliver

    def slow(event: Event) -> None:
        post.pager.deliver = inner
        post.clock.advance(HOLD_S + 1)
        post.publisher.publish()
        inner(event)

    post.pager.deliver = slow
    post.publisher.publish()

    assert post.cursor("pager").seq == 2
    assert set(seqs(post.pager)) == {1, 2}


def test_without_a_destination_nothing_is_read():
    publisher = EventPublisher(destinations=[], audit=None, cursors=None, ledger=None, clock=FakeClock())

    assert publisher.publish() == {}


@pytest.mark.parametrize(
    ("verb", "patterns", "told"),
    [
        ("incident.opened", ("incident.*",), True),
        ("incident.opened", ("run.*",), False),
        ("run.succeeded", ("incident.*", "run.succeeded"), True),
        ("run.failed", ("run.succeeded",), False),
        ("switch.engaged", ("*",), True),
        ("cluster.advanced", ("*",), False),
        ("revision.applied", ("revision.*",), False),
    ],
)
def test_only_what_may_leave_and_was_asked_for_is_told(verb, patterns, told):
    assert wanted(verb, patterns) is told


@pytest.mark.parametrize(
    ("attempts", "seconds"), [(1, 1), (2, 2), (5, 16), (9, 256), (10, 300), (10_000, 300)]
)
def test_pauses_double_up_to_five_minutes(attempts, seconds):
    assert pause_s(attempts) == seconds


def test_a_day_is_a_day():
    event = Event(seq=1, at=NOW, actor="h/a", verb="run.created", object="run 1", before=None, after={})

    assert not too_old(event, at(86_400))
    assert too_old(event, at(86_401))
