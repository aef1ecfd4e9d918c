"""What a load saw: outage, lost and stale writes."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from ha_tasks.model.load import Ack, LoadReport, Miss, ended_at, lost, outage_s, stale
from tests.fakes.clock import START


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def ack(acked: float, *, sent: float | None = None, timeline: int = 1, seq: int = 1) -> Ack:
    sent_at = at(acked if sent is None else sent)
    return Ack(writer=0, seq=seq, node="pg1", timeline=timeline, sent_at=sent_at, acked_at=at(acked))


def miss(failed: float) -> Miss:
    return Miss(writer=0, seq=9, sent_at=at(failed), failed_at=at(failed), error="refused")


@pytest.mark.parametrize(
    ("acked", "expected"),
    [
        pytest.param([], None, id="nothing at all"),
        pytest.param([-2.0, -1.0, 0.0], None, id="nothing after the fault"),
        pytest.param([-1.0, 2.0, 2.1], 2.0, id="the gap that the fault lies in counts from the fault"),
        pytest.param([-5.0, 0.1, 0.2], 0.1, id="a long gap before the fault does not count"),
        pytest.param([0.1, 0.2, 3.0, 3.1], 3.0, id="a dying server still acknowledged for a moment"),
        pytest.param([1.0, 1.1, 4.0, 4.1], 4.0, id="the later, longer gap counts"),
        pytest.param([4.0, 0.5, 4.1], 4.0, id="in any order"),
        pytest.param([1.0, 2.0, 3.0], 1.0, id="of equal gaps the first"),
    ],
)
def test_the_outage_ends_with_the_longest_gap_after_the_fault(
    acked: list[float], expected: float | None
) -> None:
    assert outage_s(tuple(ack(a) for a in acked), at(0)) == expected


@pytest.mark.parametrize(
    ("acked", "until", "expected"),
    [
        pytest.param([0.1, 0.2], 30.0, None, id="a dying server's last words are no recovery"),
        pytest.param([0.1, 2.0, 2.1], 3.0, 2.0, id="it came back and the load ended soon after"),
        pytest.param([0.1, 2.0, 2.1], 9.0, None, id="it came back and was gone again until the end"),
        pytest.param([], 9.0, None, id="it never came back"),
        pytest.param([1.0, 1.125, 1.25], 1.375, 1.0, id="the last request took a moment"),
        pytest.param([0.125, 0.25], 0.4375, 0.125, id="nobody noticed anything"),
    ],
)
def test_a_gap_that_is_open_at_the_end_is_no_recovery(
    acked: list[float], until: float, expected: float | None
) -> None:
    assert outage_s(tuple(ack(a) for a in acked), at(0), at(until)) == expected


def test_a_load_ends_with_its_last_answer_or_failure() -> None:
    report = LoadReport(acks=(ack(1.0), ack(2.0)), misses=(miss(5.0), miss(3.0)), present=None)

    assert ended_at(report) == at(5.0)


def test_a_load_without_a_request_has_no_end() -> None:
    assert ended_at(LoadReport(acks=(), misses=(), present=None)) is None


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        pytest.param(None, None, id="unreadable is not known, never 0"),
        pytest.param({(0, 1), (0, 2)}, 0, id="all there"),
        pytest.param({(0, 1), (0, 2), (0, 3)}, 0, id="one more than acknowledged"),
        pytest.param({(0, 2)}, 1, id="one missing"),
        pytest.param(set(), 2, id="all missing"),
    ],
)
def test_lost_writes_are_acknowledged_and_not_there(
    present: set[tuple[int, int]] | None, expected: int | None
) -> None:
    found = None if present is None else frozenset(present)
    report = LoadReport(acks=(ack(1, seq=1), ack(2, seq=2)), misses=(miss(3),), present=found)

    assert lost(report) == expected


@pytest.mark.parametrize(
    ("acks", "expected"),
    [
        pytest.param([], 0, id="nothing"),
        pytest.param([ack(1), ack(2), ack(3, timeline=2)], 0, id="an orderly move"),
        pytest.param([ack(3, timeline=2), ack(5, sent=4, timeline=1)], 1, id="sent after, by the old one"),
        pytest.param([ack(3, timeline=2), ack(5, sent=2, timeline=1)], 0, id="sent before, answered late"),
        pytest.param([ack(3, timeline=2), ack(5, sent=3, timeline=1)], 0, id="sent at the very moment"),
        pytest.param(
            [ack(9, timeline=3), ack(12, sent=10, timeline=2), ack(12, sent=11)], 2, id="two older timelines"
        ),
        pytest.param([ack(5, sent=4), ack(3, timeline=2)], 1, id="in any order"),
    ],
)
def test_stale_writes_are_taken_by_an_older_timeline_after_a_newer_one_took_some(
    acks: list[Ack], expected: int
) -> None:
    assert stale(tuple(acks)) == expected
