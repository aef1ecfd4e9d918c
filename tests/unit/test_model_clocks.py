"""Wall clocks that do not agree."""

from __future__ import annotations

import pytest

from ha_tasks.model.clocks import clock_fault, clock_off_by_s
from tests.unit.builders import at


@pytest.mark.parametrize(
    ("there", "off_s"), [(0.0, 0.0), (0.2, 0.0), (0.4, 0.0), (0.5, 0.1), (-60.0, -60.0), (60.4, 60.0)]
)
def test_what_lies_between_question_and_answer_is_no_difference(there, off_s):
    assert clock_off_by_s(at(there).timestamp(), at(0.0), at(0.4)) == pytest.approx(off_s)


@pytest.mark.parametrize(
    ("there", "said"),
    [(2.0, None), (2.6, "3 s ahead of ours"), (-1.9, None), (-45.0, "45 s behind ours")],
)
def test_a_clock_that_is_off_is_named_with_its_mending(there, said):
    fault = clock_fault("db1", at(there).timestamp(), at(0.0), at(0.0), tolerated_s=2.0)

    assert (fault is None) is (said is None)
    if fault is not None:
        assert said in fault
        assert "timedatectl set-ntp true" in fault


def test_an_agent_that_does_not_tell_its_clock_is_no_fault():
    assert clock_fault("db1", None, at(0.0), at(1.0), tolerated_s=2.0) is None
