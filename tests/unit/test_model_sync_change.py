"""When the synchronous set should change, and to what."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_tasks.model.cluster import SyncSet, promotion_is_safe, sync_set_of
from ha_tasks.model.platform import DataPolicy
from ha_tasks.model.sync_change import (
    GAP,
    SILENT_FOR,
    Look,
    being_put_back,
    including,
    members_of,
    unheard,
    without,
)
from tests.unit.builders import at

NODES = [f"pg{n}" for n in range(2, 10)]
DURABILITY, AVAILABILITY = DataPolicy.DURABILITY, DataPolicy.AVAILABILITY

some = st.sets(st.sampled_from(NODES))
recorded = st.lists(st.sets(st.sampled_from(NODES), min_size=1).map(sync_set_of), min_size=1, max_size=2).map(
    tuple
)


def looks(*seen, every_s=1.0, until_s=20.0):
    """One look each second, the last at ``until_s``; ``seen`` repeats its last."""
    count = int(until_s / every_s) + 1
    names = [seen[min(n, len(seen) - 1)] for n in range(count)]
    return [Look(at=at(n * every_s), receiving=frozenset(names[n])) for n in range(count)]


def test_a_member_that_receives_nothing_for_ten_seconds_is_unheard():
    seen = [{"pg2", "pg3"}, {"pg3"}]

    assert unheard({"pg2", "pg3"}, looks(*seen), at(20)) == {"pg2": at(1)}


def test_after_nine_seconds_nothing_is_said():
    seen = [{"pg2", "pg3"}, {"pg3"}]

    assert unheard({"pg2", "pg3"}, looks(*seen, until_s=10), at(10)) == {}


def test_a_single_look_that_saw_it_begins_the_count_again():
    seen = looks({"pg3"})
    seen.append(Look(at=at(12.5), receiving=frozenset({"pg2"})))

    assert unheard({"pg2", "pg3"}, seen, at(20)) == {}


@pytest.mark.parametrize("gone", [range(12, 16), range(18, 21)])
def test_seconds_in_which_nobody_looked_prove_nothing(gone):
    seen = [look for look in looks(set()) if (look.at - at(0)).total_seconds() not in gone]

    assert unheard({"pg2"}, seen, at(20)) == {}


def test_without_a_look_nobody_is_unheard():
    assert unheard({"pg2"}, [], at(20)) == {}


@given(
    heard=st.lists(st.tuples(st.floats(0, 30), some), max_size=40),
    members=some,
    now=st.floats(0, 35),
)
def test_who_was_seen_within_the_time_is_never_unheard(heard, members, now):
    seen = [Look(at=at(moment), receiving=frozenset(names)) for moment, names in heard if moment <= now]

    lost = unheard(members, seen, at(now))

    newest = max((look.at for look in seen), default=at(0))
    for name, since in lost.items():
        assert name in members
        assert newest - since >= SILENT_FOR
        assert at(now) - newest <= GAP
        assert not any(name in look.receiving for look in seen if look.at >= since)
        assert not any(name in look.receiving for look in seen if look.at > newest - SILENT_FOR)


@given(sets=recorded, receiving=some, policy=st.sampled_from(DataPolicy), data=st.data())
def test_what_a_silent_member_leaves_behind(sets, receiving, policy, data):
    members = members_of(sets)
    silent = data.draw(st.sampled_from(sorted(members)))

    new = without(sets, silent, receiving, policy)

    others = (members - {silent}) & receiving
    if new is None:
        assert policy is DURABILITY
        assert not others
        return
    assert set(new.members) <= members - {silent}
    assert len(set(new.members) & receiving) >= new.quorum
    assert new.members or policy is AVAILABILITY


@given(sets=recorded, data=st.data())
def test_the_change_in_the_middle_is_never_easier_to_promote_through(sets, data):
    """While both stand, whatever lets a promotion through is enough for the old set and for the new."""
    members = members_of(sets)
    silent = data.draw(st.sampled_from(sorted(members)))
    revoked = data.draw(some)
    new = without(sets, silent, members, DURABILITY)

    if new is not None and promotion_is_safe((*sets, new), revoked):
        assert all(promotion_is_safe((each,), revoked) for each in (*sets, new))


def test_once_the_silent_one_is_out_the_next_failure_can_be_survived():
    before = sync_set_of(["pg2", "pg3"])
    after = without((before,), "pg2", {"pg3"}, DURABILITY)

    assert after == sync_set_of(["pg3"])
    assert not promotion_is_safe((before,), {"pg3"})
    assert promotion_is_safe((after,), {"pg3"})


@pytest.mark.parametrize(("policy", "expected"), [(DURABILITY, None), (AVAILABILITY, sync_set_of([]))])
def test_the_last_member_goes_only_where_availability_was_chosen(policy, expected):
    assert without((sync_set_of(["pg2"]),), "pg2", set(), policy) == expected


def test_of_several_silent_ones_none_stays_that_the_new_quorum_would_wait_for():
    before = sync_set_of(["pg2", "pg3", "pg4", "pg5", "pg6"])

    assert without((before,), "pg2", {"pg5"}, DURABILITY) == sync_set_of(["pg5"])


def test_a_node_comes_back_into_the_youngest_set():
    sets = (sync_set_of(["pg2", "pg3"]), sync_set_of(["pg3"]))

    assert including(sets, "pg1", "pg3") == SyncSet(quorum=1, members=("pg1",))
    assert including(sets, "pg2", "pg1") == sync_set_of(["pg2", "pg3"])


def test_ten_seconds_are_longer_than_any_gap_that_is_bridged():
    assert 2 * GAP < SILENT_FOR <= timedelta(seconds=15)


@given(members=st.sets(st.sampled_from(NODES), min_size=1).map(sync_set_of), revoked=some)
def test_while_a_set_is_put_back_the_proof_is_the_same_as_by_that_set_alone(members, revoked):
    assert promotion_is_safe(being_put_back([members]), revoked) == promotion_is_safe([members], revoked)
