"""When an agent ends its primary by itself, and when not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_tasks.model.self_fence import Heard, SelfView, Standing, why_fence

MINE = Standing(epoch=5, primary="pg1", steady=True)
LATER = Standing(epoch=6, primary="pg2", steady=True)
ALONE = SelfView(
    node="pg1",
    heard=(Heard(standing=MINE, ago_s=12.0),),
    obeyed=5,
    quorum=1,
    streaming=0,
    lonely_s=12.0,
)


def heard(standing, *ago_s):
    return tuple(Heard(standing=standing, ago_s=each) for each in ago_s)


@pytest.mark.parametrize(
    ("changes", "fenced"),
    [
        ({}, True),
        # A controller with a store has spoken: somebody leads, and knows what to do.
        ({"heard": heard(MINE, 12.0, 3.0)}, False),
        # Store and controllers may be away for as long as they like while somebody acknowledges.
        ({"streaming": 1, "lonely_s": 0.0}, False),
        ({"lonely_s": 9.0}, False),
        # Asynchronous primaries stay up.
        ({"quorum": 0}, False),
        # A frozen or overloaded server says nothing: that is no word against it.
        ({"streaming": None}, False),
        # Who was never spoken to does not know that there is a store.
        ({"heard": ()}, False),
    ],
)
def test_alone_without_store_and_standbys(changes, fenced):
    assert bool(why_fence(replace(ALONE, **changes))) is fenced


@pytest.mark.parametrize(
    ("changes", "fenced"),
    [
        ({"heard": heard(LATER, 2.0, 0.5)}, True),
        # Once is no confirmation: it may have been under way for long.
        ({"heard": heard(LATER, 0.5)}, False),
        ({"heard": heard(LATER, 0.9, 0.5)}, False),
        ({"heard": heard(LATER, 30.0, 20.0)}, False),
        # The last word counts.
        ({"heard": heard(LATER, 3.0, 1.5) + heard(replace(LATER, primary="pg1"), 0.5)}, False),
        ({"heard": heard(MINE, 1.5, 0.5)}, False),
        ({"heard": heard(replace(LATER, epoch=4), 2.0, 0.5)}, False),
        # A failover is under way: it fences where it must.
        ({"heard": heard(replace(LATER, steady=False), 2.0, 0.5)}, False),
        # Commits are acknowledged here: whoever says that another is the primary is wrong.
        ({"heard": heard(LATER, 2.0, 0.5), "streaming": 1}, False),
        # For an asynchronous primary this is all the protection there is.
        ({"heard": heard(LATER, 2.0, 0.5), "quorum": 0}, True),
        ({"heard": heard(LATER, 2.0, 0.5), "quorum": 2, "streaming": 1}, True),
    ],
)
def test_another_node_is_the_primary_by_now(changes, fenced):
    view = replace(ALONE, lonely_s=0.0, **changes)

    assert bool(why_fence(view)) is fenced


STANDINGS = st.builds(
    Standing, epoch=st.integers(0, 9), primary=st.sampled_from(["pg1", "pg2"]), steady=st.booleans()
)
HEARD = st.lists(st.builds(Heard, standing=STANDINGS, ago_s=st.floats(0, 60)), max_size=6).map(
    lambda each: tuple(sorted(each, key=lambda h: -h.ago_s))
)


@given(
    view=st.builds(
        SelfView,
        node=st.just("pg1"),
        heard=HEARD,
        obeyed=st.integers(0, 9),
        quorum=st.integers(1, 4),
        streaming=st.integers(0, 8),
        lonely_s=st.floats(0, 100),
    )
)
def test_no_rule_ends_a_primary_whose_standbys_stream(view):
    if view.streaming >= view.quorum:
        assert why_fence(view) == ""
