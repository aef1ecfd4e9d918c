"""Availability: weighed time, unknown is not available, and the sums always add up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_tasks.model.availability import (
    IntegrityResult,
    Life,
    ServiceState,
    availability_percentage,
    integrity_score,
    seconds_by_state,
    state_at,
)

NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Part:
    state: str
    since: datetime
    until: datetime | None


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def life(*parts: tuple[str, float, float | None], judged: float | None = 0.0, weight: float = 1.0) -> Life:
    """(state, began s ago, ended s ago); ``judged``: seconds ago."""
    return Life(
        weight=weight,
        stretches=[
            Part(state=state, since=ago(since), until=None if until is None else ago(until))
            for state, since, until in parts
        ],
        judged_at=None if judged is None else ago(judged),
        stale_after_s=5.0,
    )


DAY = 86_400.0


@pytest.mark.parametrize(
    ("lives", "expected"),
    [
        pytest.param([], None, id="no service: no number"),
        pytest.param([life(judged=None)], None, id="nobody has ever judged: no number"),
        pytest.param([life(("available", 100, None))], 100.0, id="up since it exists"),
        pytest.param([life(("degraded", 100, None))], 100.0, id="degraded serves"),
        pytest.param([life(("unavailable", 100, None))], 0.0, id="down since it exists"),
        pytest.param([life(("maintenance", 100, None))], 0.0, id="unannounced maintenance"),
        pytest.param([life(("a word of tomorrow", 100, None))], 0.0, id="a strange state is unknown"),
        pytest.param(
            [life(("available", 100, 25), ("unavailable", 25, None))], 75.0, id="down for a quarter"
        ),
        pytest.param([life(("available", 100, None), judged=40)], 60.0, id="nobody has looked for 40 s"),
        pytest.param([life(("available", 100, None), judged=5)], 100.0, id="5 s is still fresh"),
        pytest.param([life(("available", 100, None), judged=None)], 0.0, id="a state that nobody judged"),
        pytest.param([life(("available", 100, 50), ("available", 25, None))], 75.0, id="a gap is unknown"),
        pytest.param(
            [life(("available", 2 * DAY, DAY / 2), ("unavailable", DAY / 2, None))],
            50.0,
            id="only the last 24 hours count",
        ),
        pytest.param(
            [life(("unavailable", 3 * DAY, 2 * DAY), ("available", 2 * DAY, None))],
            100.0,
            id="an outage before the window is over",
        ),
        pytest.param(
            [life(("available", 100, None), weight=4.0), life(("unavailable", 100, None), weight=1.0)],
            80.0,
            id="by weight",
        ),
        pytest.param(
            [life(("available", 100, None)), life(("unavailable", 25, None))],
            80.0,
            id="a young service counts for its age",
        ),
        pytest.param(
            [life(("available", 100, None)), life(judged=None)],
            50.0,
            id="a service that nobody ever judged is unknown as long as the others are known",
        ),
        pytest.param(
            [life(("available", 100, None), ("unavailable", 40, None))],
            60.0,
            id="where two overlap the later one holds",
        ),
        pytest.param([life(("available", -5, None))], None, id="a state that begins in the future"),
    ],
)
def test_availability_is_weighed_time_served_over_time_observed(
    lives: list[Life], expected: float | None
) -> None:
    assert availability_percentage(lives, NOW) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (life(judged=None), ServiceState.UNKNOWN),
        (life(("available", 100, None)), ServiceState.AVAILABLE),
        (life(("available", 100, 9), ("unavailable", 9, None)), ServiceState.UNAVAILABLE),
        (life(("available", 100, None), judged=5.1), ServiceState.UNKNOWN),
        (life(("available", 100, None), judged=None), ServiceState.UNKNOWN),
        (life(("available", 0, None)), ServiceState.AVAILABLE),
        (life(("available", 100, 50)), ServiceState.UNKNOWN),
    ],
)
def test_a_state_stands_as_long_as_somebody_judges(known: Life, expected: ServiceState) -> None:
    assert state_at(known, NOW) is expected


def test_seconds_are_counted_from_the_first_stretch_within_the_bounds() -> None:
    known = life(("available", 100, 60), ("unavailable", 60, 50), ("available", 50, None))

    seconds = seconds_by_state(known, ago(80), ago(10), NOW)

    assert {state.value: s for state, s in seconds.items() if s} == {"available": 60.0, "unavailable": 10.0}


def test_back_dating_within_the_unsettled_time_takes_no_counted_second_back() -> None:
    before = life(("available", 100, None))
    after = life(("available", 100, 3), ("unavailable", 3, None))

    assert seconds_by_state(before, ago(200), ago(10), NOW) == seconds_by_state(after, ago(200), ago(10), NOW)


@st.composite
def lives(draw: st.DrawFn) -> Life:
    """Contiguous, overlapping or with gaps; stale or not."""
    parts = draw(
        st.lists(
            st.tuples(
                st.sampled_from([*ServiceState, "strange"]),
                st.integers(0, 200_000),
                st.integers(0, 50_000),
            ),
            max_size=6,
        )
    )
    stretches = [(str(state), since, since - lasts) for state, since, lasts in parts]
    chain = [(state, since, None if until <= 0 else until) for state, since, until in stretches]
    judged = draw(st.none() | st.integers(0, 100_000))
    return life(*chain, judged=judged, weight=draw(st.floats(0.1, 10)))


@given(lives(), st.integers(0, 200_000), st.integers(0, 200_000))
def test_the_states_add_up_to_the_time_that_the_service_existed(known: Life, a: int, b: int) -> None:
    since, until = ago(max(a, b)), ago(min(a, b))

    seconds = seconds_by_state(known, since, until, NOW)

    first = min((s.since for s in known.stretches), default=until)
    whole = max(0.0, (until - max(since, first)).total_seconds())
    assert all(s >= 0 for s in seconds.values())
    assert sum(seconds.values()) == pytest.approx(whole)


@given(lives(), st.integers(0, 200_000), st.integers(0, 200_000), st.integers(0, 200_000))
def test_counting_in_two_pieces_is_counting_once(known: Life, a: int, b: int, c: int) -> None:
    begin, middle, end = (ago(s) for s in sorted((a, b, c), reverse=True))

    whole = seconds_by_state(known, begin, end, NOW)
    pieces = [seconds_by_state(known, begin, middle, NOW), seconds_by_state(known, middle, end, NOW)]

    for state, seconds in whole.items():
        assert sum(piece[state] for piece in pieces) == pytest.approx(seconds)


@given(st.lists(lives(), max_size=4))
def test_a_percentage_is_between_nothing_and_all(known: list[Life]) -> None:
    percentage = availability_percentage(known, NOW)

    assert percentage is None or -1e-9 <= percentage <= 100.0 + 1e-9


@given(st.lists(lives(), min_size=1, max_size=4))
def test_silence_never_makes_it_better(known: list[Life]) -> None:
    silent = [
        Life(weight=one.weight, stretches=one.stretches, judged_at=None, stale_after_s=5.0) for one in known
    ]
    heard, unheard = availability_percentage(known, NOW), availability_percentage(silent, NOW)

    assert (heard is None) == (unheard is None)
    assert heard is None or unheard is None or unheard <= heard + 1e-9


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([], None),
        ([(True, 1.0, None, 0)], 1.0),
        ([(False, 1.0, None, 0)], 0.0),
        ([(True, 4.0, None, 0), (False, 1.0, None, 0)], 0.8),
        ([(True, 1.0, 60.0, 60)], 1.0),
        ([(True, 1.0, 60.0, 61)], 0.0),
        ([(True, 1.0, None, 10 * DAY)], 1.0),
        ([(True, 0.0, None, 0)], None),
    ],
)
def test_integrity_is_the_weighed_share_of_checks_that_passed_in_time(
    results: list[tuple[bool, float, float | None, float]], expected: float | None
) -> None:
    known = [
        IntegrityResult(ok=ok, weight=weight, due_within_s=due, at=ago(age))
        for ok, weight, due, age in results
    ]

    assert integrity_score(known, NOW) == expected
