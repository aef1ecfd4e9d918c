"""May a store be acted on? A table of what it says beside what others remember."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ha_tasks.model.store_trust import APPROVE, StoreFacts, may_act

WELL = StoreFacts(
    store_id="b",
    served="b",
    fence=70,
    fence_seen=70,
    epochs={"db": 4, "other": 1},
    epochs_seen={"db": 4},
)


@pytest.mark.parametrize(
    "facts",
    [
        WELL,
        StoreFacts(store_id="b"),
        replace(WELL, served=None),
        replace(WELL, served="a", succeeds=frozenset({"a"})),
        replace(WELL, epochs_seen={"db": 0, "never led": 0}),
        replace(WELL, epochs={"db": 9}, fence=99),
    ],
)
def test_a_store_that_nobody_contradicts_may_be_acted_on(facts: StoreFacts):
    assert may_act(facts) is None


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (replace(WELL, epochs={"db": 3}), "db was led in epoch 4, and here it is 3"),
        (replace(WELL, epochs={}), "db was led in epoch 4, and here it is not recorded"),
        (replace(WELL, fence=69), "fence 70 was given, and here the last is 69"),
        (replace(WELL, served="a"), "not the one that was served here (a before, now b)"),
        (replace(WELL, served="a", succeeds=frozenset({"c"})), "not the one that was served here"),
        (replace(WELL, moved_to="postgresql://db/ha"), "copied to postgresql://db/ha"),
        (replace(WELL, approving="anna@desk"), "an approval that anna@desk began has not ended"),
    ],
)
def test_a_store_that_others_contradict_is_not_acted_on_and_the_way_out_is_said(facts: StoreFacts, said: str):
    reason = may_act(facts)

    assert reason is not None
    assert said in reason
    assert reason.endswith(APPROVE)
    assert "\n" not in reason


def test_an_old_store_is_told_as_old_and_not_as_a_stranger():
    """Restoring the newest one is the better way out, and only that sentence names it."""
    reason = may_act(replace(WELL, served="a", epochs={"db": 3}))

    assert reason is not None
    assert "restore the newest one" in reason
