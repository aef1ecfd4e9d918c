"""The contract of leaderships and claimed ticks: on all three stores."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ha_tasks.errors import StaleFence
from ha_tasks.model.leadership import BEAT, NOBODY, Lease
from ha_tasks.model.schedule import Entry, Every, Move, Tick, TickState
from ha_tasks.names import Counter, Handling
from ha_tasks.store import Store
from tests.contract.conftest import AnyStore
from tests.plans import at


def entry(missed: Handling = Handling.DROPPED, name: str = "sweep") -> Entry:
    return Entry(
        name=name, task="ha.sweep", cadence=Every(seconds=1.0), queue="q", expires_s=1.0, missed=missed
    )


BACKUP = entry(Handling.MADE_UP, "backup")


def move(second: float, before: Tick | None = None, **words) -> Move:
    return Move(
        **{"entry": entry(), "before": before, "due_at": at(second), "send": True, "missed": 0, **words}
    )


def tick(second: float, fence: int, state: TickState = TickState.SENT, changed: float | None = None) -> Tick:
    moment = at(second if changed is None else changed)
    return Tick(due_at=at(second), fence=fence, state=state, changed_at=moment)


def take(store: AnyStore, holder: str, second: float = 0.0) -> int:
    """Whoever leads lets it go."""
    taken = store.leadership.take(BEAT, store.leadership.look(BEAT), holder, at(second))
    assert taken is not None
    return taken.fence


def missed(store: AnyStore) -> dict[tuple[str, str], float]:
    return {
        (s.labels["entry"], s.labels["handling"]): s.value
        for s in store.ledger.series()
        if s.name == Counter.SCHEDULE_MISSED
    }


def test_the_first_to_ask_leads(store: AnyStore):
    assert store.leadership.look(BEAT) is None
    assert store.leadership.take(BEAT, None, "h/a", at(3)) == Lease(holder="h/a", fence=1, lease_until=at(3))
    assert store.leadership.take(BEAT, None, "h/b", at(3)) is None
    assert store.leadership.look(BEAT) == Lease(holder="h/a", fence=1, lease_until=at(3))


def test_a_lease_is_taken_only_as_it_was_seen_and_with_the_next_fence(store: AnyStore):
    take(store, "h/a", 3)
    seen = store.leadership.look(BEAT)
    assert store.leadership.renew(BEAT, 1, at(4))

    assert store.leadership.take(BEAT, seen, "h/b", at(9)) is None
    assert take(store, "h/b", 9) == 2
    assert not store.leadership.renew(BEAT, 1, at(10))
    assert store.leadership.look(BEAT) == Lease(holder="h/b", fence=2, lease_until=at(9))


def test_a_released_lease_can_be_neither_renewed_nor_released_by_another(store: AnyStore):
    fence = take(store, "h/a")
    store.leadership.release(BEAT, fence + 1, at(1))
    assert store.leadership.look(BEAT).holder == "h/a"
    for _ in range(2):
        store.leadership.release(BEAT, fence, at(1))

    assert store.leadership.look(BEAT) == Lease(holder=NOBODY, fence=fence, lease_until=at(1))
    assert not store.leadership.renew(BEAT, fence, at(2))
    with pytest.raises(StaleFence):
        store.ticks.claim(BEAT, fence, [move(1)], at(1), at(3))


def test_leaderships_of_different_names_are_strangers(store: AnyStore):
    take(store, "h/a")

    assert store.leadership.look("other") is None
    assert store.leadership.take("other", None, "h/b", at(3)) is not None


def test_a_tick_is_claimed_once(store: AnyStore):
    fence = take(store, "h/a")
    first = store.ticks.claim(BEAT, fence, [move(1)], at(1), at(4))
    again = store.ticks.claim(BEAT, fence, [move(1)], at(1), at(4))

    assert (first, again) == ((move(1),), ())
    assert store.ticks.ticks() == {"sweep": tick(1, fence)}
    assert store.schedule.last_tick() == at(1)


def test_a_claim_renews_the_lease(store: AnyStore):
    fence = take(store, "h/a")
    store.ticks.claim(BEAT, fence, [move(1)], at(1), at(4))

    assert store.leadership.look(BEAT).lease_until == at(4)


def test_a_claim_on_what_is_no_longer_the_newest_is_not_had_and_not_counted(store: AnyStore):
    fence = take(store, "h/a")
    store.ticks.claim(BEAT, fence, [move(1)], at(1), at(4))
    known = store.ticks.ticks()["sweep"]
    newer, late = move(3, known, missed=1), move(2, known, missed=5)
    store.ticks.claim(BEAT, fence, [newer], at(3), at(6))

    assert store.ticks.claim(BEAT, fence, [late], at(3), at(6)) == ()
    assert store.ticks.ticks()["sweep"].due_at == at(3)
    assert missed(store) == {("sweep", "dropped"): 1}


def test_whoever_lost_the_lead_claims_nothing_and_nothing_is_counted(store: AnyStore):
    lost = take(store, "h/a")
    take(store, "h/b", 3)
    with pytest.raises(StaleFence):
        store.ticks.claim(BEAT, lost, [move(1, missed=3)], at(1), at(4))

    assert store.ticks.ticks() == {}
    assert store.schedule.last_tick() is None
    assert missed(store) == {}
    assert store.leadership.look(BEAT).lease_until == at(3)


def test_what_must_not_be_lost_is_only_claimed_until_the_broker_has_it(store: AnyStore):
    fence = take(store, "h/a")
    due = move(1, entry=BACKUP, missed=2)
    store.ticks.claim(BEAT, fence, [due], at(1), at(4))
    before = store.ticks.ticks()["backup"]
    store.ticks.settle(fence, [due], [], at(2))

    assert before == tick(1, fence, TickState.CLAIMED)
    assert store.ticks.ticks()["backup"] == tick(1, fence, changed=2)
    assert missed(store) == {("backup", "made_up"): 2}


def test_what_the_predecessor_owed_is_claimed_again_and_counted_once_it_was_sent(store: AnyStore):
    lost = take(store, "h/a")
    due = move(1, entry=BACKUP)
    store.ticks.claim(BEAT, lost, [due], at(1), at(4))
    store.ticks.settle(lost, [], [due], at(2))
    owed = store.ticks.ticks()["backup"]
    fence = take(store, "h/b", 5)
    again = move(1, owed, entry=BACKUP, again=True)
    claimed = [store.ticks.claim(BEAT, fence, [again], at(5), at(8)) for _ in range(2)]
    store.ticks.settle(lost, [due], [], at(6))
    unsettled = store.ticks.ticks()["backup"].state
    for _ in range(2):
        store.ticks.settle(fence, [again], [], at(7))

    assert owed == tick(1, lost, TickState.OWED, changed=2)
    assert claimed == [(again,), ()]
    assert unsettled is TickState.CLAIMED
    assert store.ticks.ticks()["backup"] == tick(1, fence, changed=7)
    assert missed(store) == {("backup", "made_up"): 1}


def test_a_tick_that_needs_no_message_is_settled_by_its_claim(store: AnyStore):
    fence = take(store, "h/a")
    store.ticks.claim(BEAT, fence, [move(1, entry=BACKUP, send=False)], at(1), at(4))

    assert store.ticks.ticks()["backup"] == tick(1, fence)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_of_many_who_take_at_once_one_leads(kind: str, request: pytest.FixtureRequest):
    store: Store = request.getfixturevalue(f"{kind}_store")
    with ThreadPoolExecutor(8) as pool:
        first = list(pool.map(lambda n: store.leadership.take(BEAT, None, f"h/{n}", at(n)), range(8)))
        seen = store.leadership.look(BEAT)
        later = list(pool.map(lambda n: store.leadership.take(BEAT, seen, f"h/{n}", at(9)), range(8)))

    assert sum(lease is not None for lease in first) == 1
    assert [lease.fence for lease in later if lease is not None] == [2]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_of_many_who_claim_a_tick_at_once_one_has_it(kind: str, request: pytest.FixtureRequest):
    store: Store = request.getfixturevalue(f"{kind}_store")
    fence = take(store, "h/a")
    for second, before in ((1, None), (2, tick(1, fence, changed=0))):
        with ThreadPoolExecutor(8) as pool:
            claims = pool.map(
                lambda _: store.ticks.claim(BEAT, fence, [move(second, before)], at(0), at(4)),  # noqa: B023
                range(8),
            )

        assert sum(map(len, claims)) == 1
