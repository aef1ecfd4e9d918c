"""Each rule of the protocol taken away: the histories must find it, or they would prove nothing."""

from __future__ import annotations

import pytest

from tests.protocol.explorer import explore, play
from tests.protocol.planted import PLANTED
from tests.protocol.traces import TRACES
from tests.protocol.world import Broken

FOUND_BY_CHANCE = (
    "take_over_in_the_same_epoch",
    "the_least_advanced",
    "ledger_written_afterwards",
    "no_mark",
)
"""Where a fault is no more than one request deep, histories that nobody wrote find it too."""


@pytest.mark.parametrize("fault", sorted(PLANTED))
def test_a_planted_fault_is_found(fault, make):
    with PLANTED[fault](), pytest.raises(Broken):
        play(TRACES[fault], make)


def test_every_planted_fault_has_a_trace():
    assert set(PLANTED) == set(TRACES)


@pytest.mark.full
@pytest.mark.parametrize("fault", FOUND_BY_CHANCE)
def test_a_planted_fault_is_found_by_histories_that_nobody_wrote(fault, make):
    with PLANTED[fault]():
        _, found = explore(range(1000), make)

    assert found is not None
