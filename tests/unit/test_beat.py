"""The beat over fakes: who leads, what is claimed, what is sent, what is counted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from ha_tasks.errors import BrokerUnreachable, StoreUnreachable, Unroutable
from ha_tasks.model.leadership import BEAT, NOBODY
from ha_tasks.model.schedule import Entry, Every, Move
from ha_tasks.names import Handling
from ha_tasks.workflows.beat import Beat
from ha_tasks.workflows.leading import LEASE_S, Leading
from tests.fakes.clock import FakeClock
from tests.fakes.repositories import FakeStore

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def entry(name: str, every_s: float, missed: Handling, expires_s: float | None = None) -> Entry:
    return Entry(
        name=name,
        task=f"ha.{name}",
        cadence=Every(seconds=every_s),
        queue="q",
        expires_s=every_s if expires_s is None else expires_s,
        missed=missed,
    )


SWEEP = entry("sweep", 1.0, Handling.DROPPED)
BACKUP = entry("backup", 10.0, Handling.MADE_UP, expires_s=2.0)


class Broker:
    """Takes ticks, or does not."""

    def __init__(self) -> None:
        self.got: list[tuple[str, float, int]] = []
        self.failure: Exception | None = None
        self.asked = 0

    def send(self, move: Move, fence: int) -> None:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        self.got.append((move.entry.name, (move.due_at - NOW).total_seconds(), fence))

    def ticks(self, name: str) -> list[float]:
        return [due for known, due, _ in self.got if known == name]


class Stage:
    """Beats on one store and one broker; clocks may go apart."""

    def __init__(self, *entries: Entry) -> None:
        self.entries: Sequence[Entry] = entries
        self.store = FakeStore()
        self.broker = Broker()
        self.clock = FakeClock(NOW)

    def beat(self, holder: str, clock: FakeClock | None = None) -> Beat:
        clock = clock or self.clock
        leading = Leading(leadership=self.store.leadership, clock=clock, name=BEAT, holder=holder)
        return Beat(
            entries=self.entries,
            leading=leading,
            ticks=self.store.ticks,
            schedule=self.store.schedule,
            ledger=self.store.ledger,
            clock=clock,
            send=self.broker.send,
        )

    def live(self, seconds: float, *beats: Beat) -> None:
        """All of them go round, ten times a second."""
        for _ in range(round(seconds * 10)):
            for beat in beats:
                beat.round()
            self.clock.pause(0.1)

    @property
    def acting(self) -> str:
        lease = self.store.leadership.leases.get(BEAT)
        return NOBODY if lease is None else lease.holder

    def missed(self, name: str, handling: Handling) -> float:
        labels = {"entry": name, "handling": str(handling)}
        return sum(s.value for s in self.store.ledger.series() if s.labels == labels)


def test_of_two_one_acts_and_each_tick_is_sent_once():
    stage = Stage(SWEEP)
    stage.live(10, stage.beat("a"), stage.beat("b"))

    assert stage.acting == "a"
    assert stage.broker.ticks("sweep") == [float(n) for n in range(1, 10)]
    assert stage.missed("sweep", Handling.DROPPED) == 0


def test_a_killed_leader_is_followed_within_its_lease_and_two_looks():
    stage = Stage(SWEEP)
    first, second = stage.beat("a"), stage.beat("b")
    stage.live(5, first, second)
    stage.live(LEASE_S + 1.0, second)

    assert stage.acting == "b"
    assert stage.broker.got[-1][2] == 2
    due = stage.broker.ticks("sweep")
    assert max(later - earlier for earlier, later in pairwise(due)) <= 4
    assert stage.missed("sweep", Handling.DROPPED) == 8 - len(due)


def test_a_leader_that_was_paused_finds_that_it_lost_and_sends_nothing():
    stage = Stage(SWEEP, BACKUP)
    first, second = stage.beat("a"), stage.beat("b")
    stage.live(5, first, second)
    stage.live(20, second)
    stage.live(5, first, second)

    assert stage.acting == "b"
    assert len(set(stage.broker.got)) == len(stage.broker.got)
    assert {fence for _, due, fence in stage.broker.got if due > 8} == {2}


def test_a_leader_that_was_paused_between_claim_and_message_does_not_send_it():
    stage = Stage(SWEEP)
    first = stage.beat("a")
    stage.live(3, first)
    claim = stage.store.ticks.claim

    def paused(*words, **options):
        claimed = claim(*words, **options)
        stage.clock.pause(LEASE_S)
        return claimed

    stage.store.ticks.claim = paused
    stage.live(0.1, first)

    assert stage.broker.ticks("sweep") == [1.0, 2.0]
    assert stage.missed("sweep", Handling.DROPPED) >= 1


def test_a_lease_that_is_given_back_is_taken_with_the_next_look():
    stage = Stage(SWEEP)
    first, second = stage.beat("a"), stage.beat("b")
    stage.live(2, first, second)
    first.close()
    first.close()
    second.round()

    assert stage.acting == "b"


@pytest.mark.parametrize("step_s", [-3600.0, 3600.0])
def test_a_clock_that_steps_changes_nothing_about_who_leads(step_s: float):
    stage = Stage(SWEEP)
    first, second = stage.beat("a"), stage.beat("b")
    stage.live(5, first, second)
    stage.clock.start += timedelta(seconds=step_s)
    stage.live(5, first, second)

    assert stage.acting == "a"
    assert stage.store.leadership.leases[BEAT].fence == 1
    assert len(set(stage.broker.got)) == len(stage.broker.got)
    assert stage.broker.ticks("sweep")[-1] == pytest.approx(step_s + 9)


def test_a_backup_that_was_missed_is_made_up_once_and_a_probe_is_not():
    stage = Stage(SWEEP, BACKUP)
    first = stage.beat("a")
    stage.live(11, first)
    stage.clock.pause(25)
    stage.live(8, stage.beat("b"))

    assert stage.broker.ticks("backup") == [10.0, 30.0, 40.0]
    assert stage.missed("backup", Handling.MADE_UP) == 2
    assert stage.missed("sweep", Handling.DROPPED) == 38 - 11


def test_while_the_store_does_not_answer_nothing_is_sent_and_then_it_goes_on(caplog):
    stage = Stage(SWEEP)
    first, second = stage.beat("a"), stage.beat("b")
    stage.live(3, first, second)
    stage.store.leadership.failure = StoreUnreachable("the store is away")
    stage.live(30, first, second)
    before = stage.broker.ticks("sweep")[-1]
    stage.store.leadership.failure = None
    stage.live(4, first, second)

    assert before <= 3.0
    assert stage.broker.ticks("sweep")[-1] > 33
    assert len(set(stage.broker.got)) == len(stage.broker.got)
    told = [r.message for r in caplog.records if "the store is away" in r.message]
    assert len(told) == 2, "once for each of them"


def test_a_broker_that_is_away_is_asked_once_in_a_round_and_loses_no_backup():
    stage = Stage(BACKUP, SWEEP)
    beat = stage.beat("a")
    stage.live(9.5, beat)
    stage.broker.failure, stage.broker.asked = BrokerUnreachable("away"), 0
    stage.clock.pause(0.5)
    beat.round()
    asked = stage.broker.asked
    stage.live(3, beat)
    stage.broker.failure = None
    stage.live(3, beat)

    assert asked == 1
    assert stage.broker.ticks("backup") == [10.0]
    assert stage.missed("backup", Handling.MADE_UP) == 1
    assert 10.0 not in stage.broker.ticks("sweep")
    assert stage.missed("sweep", Handling.DROPPED) == 3


def test_the_next_leader_sends_the_backup_that_its_predecessor_had_only_claimed():
    stage = Stage(BACKUP)
    first, second = stage.beat("a"), stage.beat("b")
    stage.live(9.5, first, second)
    stage.broker.failure = BrokerUnreachable("away")
    stage.live(1, first)
    stage.broker.failure = None
    stage.live(4, second)

    assert [(name, due) for name, due, _ in stage.broker.got] == [("backup", 10.0)]


def test_an_entry_without_a_queue_does_not_keep_the_others_from_being_sent():
    lost = entry("lost", 1.0, Handling.DROPPED)
    stage = Stage(lost, SWEEP)
    send = stage.broker.send

    def routed(move: Move, fence: int) -> None:
        if move.entry is lost:
            raise Unroutable("no queue q")
        send(move, fence)

    stage.broker.send = routed
    stage.live(3, stage.beat("a"))

    assert stage.broker.ticks("sweep") == [1.0, 2.0]
    assert stage.missed("lost", Handling.DROPPED) == 2


def test_a_beat_that_ends_while_the_store_is_away_ends_all_the_same():
    stage = Stage(SWEEP)
    beat = stage.beat("a")
    beat.round()
    stage.store.leadership.failure = StoreUnreachable("away")

    beat.close()


@pytest.mark.parametrize("acting", [True, False])
def test_the_pause_until_the_next_round_is_short_enough(acting: bool):
    stage = Stage(BACKUP)
    if not acting:
        stage.beat("other").round()
    beat = stage.beat("a")

    pauses = []
    for _ in range(30 if acting else 6):
        pauses.append(beat.round())
        stage.clock.pause(pauses[-1])

    assert all(0 <= pause <= LEASE_S / (3 if acting else 6) for pause in pauses)
