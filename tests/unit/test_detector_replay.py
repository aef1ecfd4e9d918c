"""Recorded probes: written, read, replayed and scored."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from ha_tasks.errors import UsageError
from ha_tasks.model.probe import OutcomeKind
from ha_tasks.recovery.detector_replay import replayed
from ha_tasks.recovery.failure_detector import DetectorSettings, FailureDetector
from ha_tasks.recovery.probe_recording import read, written
from tests.unit.builders import at, outcome, web

OK, REFUSED = OutcomeKind.OK, OutcomeKind.REFUSED
DETECTOR = FailureDetector(DetectorSettings())


def probes(kinds):
    return [
        outcome("web1", number * 0.5, kind, service="web", vantage=vantage)
        for number, kind in enumerate(kinds)
        for vantage in ("h1/a", "h2/b")
    ]


def truth(begin_s=None, end_s=None, **more):
    told = {"service": "web", **more}
    if begin_s is not None:
        told |= {"instance": "web1", "from": at(begin_s).isoformat(), "until": at(end_s).isoformat()}
    return json.dumps({"truth": told})


def replay(kinds, *truths):
    return replayed(read([*written(web(), probes(kinds)), *truths]), DETECTOR)


LOOP = ([OK] * 10 + [REFUSED] * 8) * 2 + [OK] * 30


def test_what_was_written_is_read_as_it_was():
    told = probes([OK, REFUSED, OutcomeKind.TIMEOUT])
    recording = read(["", *written(web(), told)])

    assert [each for found in recording.probes.values() for each in found] == told
    assert recording.check("web").interval_s == web().check.interval_s


def test_an_alarm_lasts_from_the_second_refusal_until_it_is_trusted_again():
    (alarm,) = replay(LOOP).alarms

    assert alarm.begin == at(5.5) + timedelta(seconds=0.002)
    assert alarm.end == at(17.5 + 8) + timedelta(seconds=0.002)
    assert "connection refused" in alarm.evidence


def test_without_a_word_about_the_truth_nothing_is_scored():
    what = replay(LOOP)

    assert (what.found, what.false) == ((), ())


def test_a_crash_loop_is_one_alarm_that_finds_both_failures():
    what = replay(LOOP, truth(5, 9, why="kill -9"), truth(14, 18))

    assert [(round(f.took_s, 1), f.alarms, f.down.why) for f in what.found] == [
        (0.5, 1, "kill -9"),
        (0.0, 1, ""),
    ]
    assert what.false == ()


def test_an_alarm_without_a_failure_is_false():
    assert len(replay(LOOP, truth()).false) == 1
    assert len(replay(LOOP, truth(60, 61)).false) == 1


def test_a_false_alarm_finds_nothing_that_comes_later():
    what = replay([OK] * 10 + [REFUSED] * 8 + [OK] * 4, truth(7, 9))

    assert len(what.false) == 1
    assert what.found[0].took_s is None


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "line 2: "),
        ("[]", "it must be"),
        ('{"probe": 1}', "it must be"),
        ('{"truth": {"service": ""}}', "service must be a word"),
        ('{"check": {"service": "web", "interval_s": 0}}', "interval_s must be seconds"),
        ('{"check": {"service": "web", "timeout_s": true}}', "timeout_s must be seconds"),
        ('{"probe": {"service": "web", "instance": "web1"}}', "'vantage' is missing"),
        (json.dumps({"truth": {"service": "web", "instance": "w", "from": "x", "until": "y"}}), "isoformat"),
        (truth(9, 5), "until must be later than from"),
        (
            truth().replace("}}", ', "instance": "w", "from": "2026-01-01T00:00", "until": "x"}}'),
            "offset from UTC",
        ),
    ],
)
def test_a_line_that_cannot_be_read_is_named_with_the_reason(line, why):
    with pytest.raises(UsageError, match="line 2: ") as told:
        read([next(iter(written(web(), []))), line])

    assert why in str(told.value)
