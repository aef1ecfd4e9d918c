"""The rule that makes a promotion safe, against brute force."""

from __future__ import annotations

from collections.abc import Collection
from itertools import chain, combinations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ha_tasks.model.cluster import (
    SyncSet,
    format_lsn,
    parse_lsn,
    promotion_is_safe,
    sync_set_of,
)

NODES = ("pg1", "pg2", "pg3", "pg4", "pg5")


def subsets(nodes: Collection[str]) -> list[tuple[str, ...]]:
    """All of them, the empty one too."""
    return list(chain.from_iterable(combinations(sorted(nodes), size) for size in range(len(nodes) + 1)))


def can_be_acknowledged(need: int, members: Collection[str], revoked: Collection[str]) -> bool:
    """True when some ``need`` members, none of them revoked, could still acknowledge a commit."""
    return any(len(some) == need and not set(some) & set(revoked) for some in subsets(members))


def all_sets(nodes: Collection[str]) -> list[SyncSet]:
    """Every set of these nodes that commits can wait for."""
    return [
        SyncSet(quorum=quorum, members=members)
        for members in subsets(nodes)
        for quorum in range(1, len(members) + 1)
    ]


def test_a_promotion_is_safe_exactly_when_no_quorum_without_a_revoked_standby_is_left():
    for sync_set, revoked in product(all_sets(NODES), subsets(NODES)):
        safe = not can_be_acknowledged(sync_set.quorum, sync_set.members, revoked)

        assert promotion_is_safe([sync_set], revoked) is safe, (sync_set, revoked)


def test_while_two_sets_stand_no_mixture_of_them_may_be_left_either():
    for first, second, revoked in product(all_sets(NODES[:3]), all_sets(NODES[1:4]), subsets(NODES[:4])):
        sets = [first, second]
        union = {member for s in sets for member in s.members}
        smallest = min(first.quorum, second.quorum)
        safe = not any(can_be_acknowledged(s.quorum, s.members, revoked) for s in sets)
        safe &= not can_be_acknowledged(smallest, union, revoked)

        assert promotion_is_safe(sets, revoked) is safe, (sets, revoked)


@pytest.mark.parametrize(
    ("sets", "revoked"),
    [
        ([], ["pg2", "pg3"]),
        ([SyncSet(quorum=0, members=())], ["pg2"]),
        ([SyncSet(quorum=0, members=("pg2",))], ["pg2"]),
        ([sync_set_of(["pg2"]), sync_set_of([])], ["pg2"]),
        ([sync_set_of(["pg2", "pg3"])], ["pg4", "pg5"]),
    ],
    ids=["no set", "nobody acknowledged", "a quorum of none", "one of them nobody", "strangers revoked"],
)
def test_nothing_is_proved(sets: list[SyncSet], revoked: list[str]):
    assert not promotion_is_safe(sets, revoked)


@settings(deadline=None, max_examples=100)
@given(
    sets=st.lists(st.sampled_from(all_sets(NODES)), min_size=1, max_size=3),
    revoked=st.sets(st.sampled_from(NODES)),
    more=st.sampled_from(NODES),
)
def test_one_more_revocation_never_makes_it_less_safe(sets: list[SyncSet], revoked: set[str], more: str):
    assert promotion_is_safe(sets, revoked | {more}) >= promotion_is_safe(sets, revoked)


@pytest.mark.parametrize(("size", "quorum"), [(0, 0), (1, 1), (2, 1), (3, 2), (4, 3), (5, 3)])
def test_the_standing_rule(size: int, quorum: int):
    sync_set = sync_set_of(reversed(NODES[:size]))

    assert (sync_set.quorum, sync_set.members) == (quorum, NODES[:size])


@pytest.mark.parametrize(
    ("sync_set", "setting"),
    [
        (sync_set_of([]), ""),
        (SyncSet(quorum=0, members=("pg2",)), ""),
        (sync_set_of(["pg3", "pg2"]), "ANY 1 (pg2, pg3)"),
        (SyncSet(quorum=2, members=("pg3", "pg1")), "ANY 2 (pg1, pg3)"),
    ],
)
def test_a_set_as_postgresql_s_setting(sync_set: SyncSet, setting: str):
    assert sync_set.setting() == setting


@pytest.mark.parametrize(("quorum", "members"), [(-1, ()), (1, ()), (3, ("pg2", "pg3"))])
def test_a_quorum_that_cannot_be_is_refused(quorum: int, members: tuple[str, ...]):
    with pytest.raises(ValueError, match="cannot be"):
        SyncSet(quorum=quorum, members=members)


@pytest.mark.parametrize(
    ("text", "lsn"), [("0/0", 0), ("0/3000148", 0x3000148), ("16/B374D848", 0x16B374D848)]
)
def test_an_lsn_is_a_number_of_bytes(text: str, lsn: int):
    assert (parse_lsn(text), format_lsn(lsn)) == (lsn, text)


@settings(deadline=None, max_examples=100)
@given(lsn=st.integers(0, 2**64 - 1))
def test_an_lsn_comes_back(lsn: int):
    assert parse_lsn(format_lsn(lsn)) == lsn


@pytest.mark.parametrize("text", ["", "0", "/", "0/", "g/0", "0/0/0"])
def test_what_is_no_lsn_is_refused(text: str):
    with pytest.raises(ValueError, match=r".+"):
        parse_lsn(text)
