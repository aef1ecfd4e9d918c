"""Which version is in place, what was changed, and what the way back is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_tasks.errors import UsageError
from ha_tasks.model.versions import (
    Judgement,
    Version,
    changed,
    in_place,
    last_good,
    number_of,
    way_back,
)
from tests.unit.builders import T0, at

GOOD, BAD, RECORDED = Judgement.GOOD, Judgement.BAD, Judgement.RECORDED


def version(no: int, judgement: Judgement = GOOD, proved: float | None = None, **items: str) -> Version:
    """``proved``: seconds after the first moment; None: in the order of their numbers."""
    return Version(
        service="web",
        no=no,
        files=items,
        actor="ann",
        reason="",
        recorded_at=T0,
        judgement=judgement,
        judged_at=None if judgement is RECORDED else at(no if proved is None else proved),
    )


@pytest.mark.parametrize(("word", "number"), [("7", 7), ("v7", 7), (" V12 ", 12)])
def test_a_version_is_named_by_its_number(word, number):
    assert number_of(word) == number


@pytest.mark.parametrize("word", ["", "v", "0", "-1", "latest", "7.1", "9999999999"])
def test_what_is_no_number_of_a_version_is_refused(word):
    with pytest.raises(UsageError, match="is no version"):
        number_of(word)


def test_what_was_changed_is_told_as_far_as_it_is_known():
    one = version(1, conf="a", app="b", gone="c")

    assert changed(one, {"conf": "x", "app": "b", "gone": None}) == ("conf", "gone")
    assert changed(one, {"app": "x"}) == ("app",)
    assert changed(one, {"conf": "x", "app": "x"}, only=["app"]) == ("app",)
    assert changed(one, {}) == ()


def test_a_version_is_in_place_when_all_of_it_is():
    versions = [version(1, conf="a", app="b"), version(2, conf="a", app="c"), version(3, conf="a", app="b")]

    assert in_place(versions, {"conf": "a", "app": "b"}) == versions[2]
    assert in_place(versions, {"conf": "a", "app": "c"}) == versions[1]
    assert in_place(versions, {"conf": "a"}) is None
    assert in_place(versions, {"conf": "a", "app": None}) is None


@pytest.mark.parametrize(("present", "expected"), [("bad push", 3), ("b", 3), ("d", 3), ("c", 1)])
def test_the_way_back_is_the_last_good_version_and_from_there_the_one_before(present, expected):
    versions = [
        version(1, conf="a"),
        version(2, BAD, conf="b"),
        version(3, conf="c"),
        version(4, RECORDED, conf="d"),
    ]

    found = way_back(versions, {"conf": present})

    assert found is not None
    assert found.no == expected


def test_after_a_rollback_the_older_version_is_the_last_good_one():
    versions = [version(1, proved=9, conf="a"), version(2, proved=5, conf="b")]

    assert last_good(versions) == versions[0]
    assert way_back(versions, {"conf": "x"}) == versions[0]
    assert way_back(versions, {"conf": "a"}) is None


def test_there_is_no_way_back_where_nothing_else_was_good():
    assert way_back([], {"conf": "a"}) is None
    assert way_back([version(1, conf="a"), version(2, BAD, conf="b")], {"conf": "a"}) is None
    assert last_good([version(1, RECORDED, conf="a")]) is None


DIGESTS = st.sampled_from(["a", "b", "c"])
ITEMS = st.dictionaries(st.sampled_from(["conf", "app"]), DIGESTS, min_size=1)


@given(
    st.lists(st.tuples(ITEMS, st.sampled_from(Judgement)), max_size=6),
    st.dictionaries(st.sampled_from(["conf", "app"]), st.none() | DIGESTS),
)
def test_the_way_back_is_always_good_and_always_changes_something(recorded, present):
    versions = [version(no, judgement, **items) for no, (items, judgement) in enumerate(recorded, start=1)]

    found, here = way_back(versions, present), in_place(versions, present)

    if found is not None:
        assert found.judgement is GOOD
        assert changed(found, present)
        assert here is None or here.judgement is not GOOD or found.no < here.no
