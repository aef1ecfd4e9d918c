"""The figures of the failover bench: gaps, losses, the table."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ha_tasks.model.load import Ack
from tests.benchmarks.failover.__main__ import read
from tests.benchmarks.failover.figures import Trial, bars, longest_gap_s, lost_of, table, trial_of
from tests.fakes.clock import START

TRIAL = Trial(
    system="ours",
    fault="crash",
    round=1,
    outage_s=0.5,
    new_session_s=0.75,
    acked=700,
    failed=3,
    lost=0,
    lost_direct=0,
    stale=0,
    primary="pg1",
    successor="pg2",
    began_at="2026-01-01T00:00:00+00:00",
    load_average=0.5,
    version="15",
)


def ack(acked_s: float, *, writer: int = 0, seq: int = 1) -> Ack:
    moment = START + timedelta(seconds=acked_s)
    return Ack(writer=writer, seq=seq, node="pg1", timeline=1, sent_at=moment, acked_at=moment)


@pytest.mark.parametrize(
    ("acked_s", "expected"),
    [
        pytest.param([-1.0, 0.1, 4.0, 4.1, 9.9], 5.8, id="the longest stretch, wherever it lies"),
        pytest.param([3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], 3.0, id="from the fault on"),
        pytest.param([0.1, 0.2, 0.3], None, id="still open at the end"),
        pytest.param([], None, id="never again"),
    ],
)
def test_a_gap_that_is_open_at_the_end_is_no_figure(acked_s: list[float], expected: float | None) -> None:
    gap = longest_gap_s([ack(s) for s in acked_s], START, START + timedelta(seconds=10))

    assert gap == (None if expected is None else pytest.approx(expected))


def test_rows_that_could_not_be_read_back_are_not_called_kept() -> None:
    acks = [ack(1, seq=1), ack(2, seq=2)]

    assert lost_of(acks, frozenset({(0, 1), (0, 2), (7, 7)})) == 0
    assert lost_of(acks, frozenset({(0, 1)})) == 1
    assert lost_of(acks, None) is None


def test_a_trial_survives_its_line() -> None:
    assert trial_of(TRIAL.to_line()) == TRIAL


def test_a_line_that_a_kill_cut_off_is_made_again(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    out.write_text(TRIAL.to_line() + "\n" + replace(TRIAL, round=2).to_line()[:50])

    assert read(out) == [TRIAL]
    assert read(tmp_path / "none") == []


def test_the_table_has_median_and_maximum_and_says_what_never_came_back() -> None:
    slow = replace(TRIAL, system="other", round=1, outage_s=30.0, stale=2, lost=None)
    never = replace(slow, round=2, outage_s=None, stale=0, lost=1)

    rows = table([TRIAL, replace(TRIAL, round=2, outage_s=1.5), slow, never]).splitlines()

    assert rows[2].startswith("| ours | crash | 2 | 2/2 | 1.00 / 1.50 | 0.75 / 0.75 | 1400 | 0 |")
    assert rows[3].startswith("| other | crash | 2 | 1/2 | 30.00 / never |")
    assert rows[3].endswith("| 1 (1 not read) | 0 | 2 | 1/2 |")


def test_bars_are_drawn_on_one_scale() -> None:
    drawn = bars([TRIAL, replace(TRIAL, system="other", outage_s=5.0)]).splitlines()

    assert drawn[0] == "crash"
    assert drawn[1].count("█") == 5
    assert drawn[2].count("█") == 50
