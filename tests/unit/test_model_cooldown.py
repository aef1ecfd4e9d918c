"""Cool-downs: they double with each relapse, up to an hour, and a person's acknowledgement begins anew."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ha_tasks.model.cooldown import CoolDown, cool_down_after
from tests.plans import at

BASE_S = 60.0
FIRST = CoolDown(until=at(60), length_s=60.0)
"""Of a run that ended at 0."""


def length(previous: CoolDown | None, *, fault: float, ended: float, base_s: float = BASE_S) -> float:
    return cool_down_after(base_s, previous, fault_at=at(fault), ended_at=at(ended)).length_s


@pytest.mark.parametrize(
    ("previous", "fault", "expected"),
    [
        (None, 30, 60),
        (FIRST, 30, 120),
        (FIRST, 60, 120),
        (FIRST, 120, 120),
        (FIRST, 120.001, 60),
        (replace(FIRST, acknowledged=True), 30, 60),
        (CoolDown(until=at(60), length_s=0.0), 30, 60),
        (CoolDown(until=at(60), length_s=1800.0), 30, 3600),
        (CoolDown(until=at(60), length_s=3600.0), 30, 3600),
    ],
    ids=[
        "the first",
        "within it",
        "at its end",
        "within as long again",
        "later",
        "acknowledged",
        "of unknown length",
        "up to an hour",
        "not beyond",
    ],
)
def test_a_relapse_doubles_the_cool_down(previous, fault, expected):
    assert length(previous, fault=fault, ended=fault + 5) == expected


def test_a_playbook_may_ask_for_more_than_an_hour():
    previous = CoolDown(until=at(7200), length_s=7200.0)

    assert length(previous, fault=100, ended=200, base_s=7200) == 7200


def test_a_playbook_without_a_cool_down_never_gets_one():
    none = cool_down_after(0.0, None, fault_at=at(0), ended_at=at(5))

    assert (none.until, none.length_s) == (at(5), 0.0)
    assert length(none, fault=5, ended=9, base_s=0.0) == 0.0


def test_relapse_after_relapse_it_grows_to_an_hour():
    cool, lengths, ended = None, [], 0.0
    for _ in range(9):
        cool = cool_down_after(BASE_S, cool, fault_at=at(ended), ended_at=at(ended + 5))
        lengths.append(cool.length_s)
        ended += 5 + cool.length_s

    assert lengths == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


def test_the_same_run_told_twice_cools_once():
    """Two followers may tell it; the second finds what the first has written."""
    once = cool_down_after(BASE_S, FIRST, fault_at=at(70), ended_at=at(75))

    assert once == CoolDown(until=at(195), length_s=120.0)
    assert cool_down_after(BASE_S, once, fault_at=at(70), ended_at=at(75)) == once
