"""One contract for clocks: the fake and the system's."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ha_tasks.adapters.clock import SystemClock
from ha_tasks.ports.clock import Clock
from tests.fakes.clock import FakeClock


@pytest.fixture(params=[FakeClock, SystemClock])
def clock(request: pytest.FixtureRequest) -> Clock:
    made: Clock = request.param()
    return made


def test_now_is_aware_utc(clock: Clock) -> None:
    assert clock.now().utcoffset() == timedelta(0)


def test_a_pause_lets_time_pass_on_both_clocks(clock: Clock) -> None:
    now, monotonic = clock.now(), clock.monotonic()

    clock.pause(0.02)

    assert clock.monotonic() - monotonic >= 0.02
    assert clock.now() - now >= timedelta(seconds=0.015)


def test_without_a_pause_monotonic_time_does_not_go_back(clock: Clock) -> None:
    assert clock.monotonic() <= clock.monotonic()
