"""When an entry is due, and what is to be done about it: tables of values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from celery.schedules import crontab

from beat_schedule import SCHEDULE
from ha_tasks.model.schedule import Calendar, Entry, Every, Move, Tick, TickState, decide
from ha_tasks.names import Handling, ScheduleEntry
from ha_tasks.tasks.cadence import at as cron_at
from ha_tasks.tasks.cadence import cadence_of
from workers.beat import entries_of

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
CLAIMED, OWED = TickState.CLAIMED, TickState.OWED
BERLIN = "Europe/Berlin"
"""Its clocks go forward on 2026-03-29 from 02:00 to 03:00, back on 2026-10-25 from 03:00 to 02:00."""


def at(second: float) -> datetime:
    return NOON + timedelta(seconds=second)


def utc(*words: int) -> datetime:
    return datetime(*words, tzinfo=UTC)


def probe(every_s: float = 5.0, expires_s: float = 4.0) -> Entry:
    return entry(every_s, expires_s, Handling.DROPPED)


def backup(when=10.0, expires_s: float = 4.0) -> Entry:
    return entry(when, expires_s, Handling.MADE_UP)


def entry(when, expires_s: float, missed: Handling) -> Entry:
    return Entry(
        name="e", task="ha.e", cadence=cadence_of(when), queue="q", expires_s=expires_s, missed=missed
    )


def tick(second: float, state: TickState = TickState.SENT) -> Tick:
    return Tick(due_at=at(second), fence=7, state=state, changed_at=at(second))


def said(move: Move | None) -> tuple[float, bool, int, bool] | None:
    """Seconds after noon, whether it is sent, how many were missed, whether it is sent again."""
    if move is None:
        return None
    return (move.due_at - NOON).total_seconds(), move.send, move.missed, move.again


# cadences


@pytest.mark.parametrize(("second", "expected"), [(0, 0), (4.999, 0), (5, 5), (-0.001, -5)])
def test_seconds_are_a_grid_that_every_host_computes_alike(second: float, expected: float):
    assert Every(seconds=5.0).latest(at(second)) == at(expected)


@pytest.mark.parametrize(
    ("after", "until", "expected"), [(0, 0, 0), (0, 4.9, 0), (0, 5, 1), (0, 86_400, 17_280), (5, 0, 0)]
)
def test_moments_of_seconds_are_counted(after: float, until: float, expected: int):
    assert Every(seconds=5.0).count(at(after), at(until)) == expected


def test_seconds_are_looked_at_again_when_the_next_is_due():
    assert Every(seconds=5.0).look_again(at(1)) == at(5)


@pytest.mark.parametrize(
    ("cron", "zone", "now", "expected"),
    [
        ("0 2 * * *", "UTC", utc(2026, 11, 23, 12), utc(2026, 11, 23, 2)),
        ("0 2 * * *", "UTC", utc(2026, 11, 23, 1, 59, 59), utc(2026, 11, 22, 2)),
        ("0 2 * * *", "UTC", utc(2026, 11, 23, 2), utc(2026, 11, 23, 2)),
        ("0 2 * * *", BERLIN, utc(2026, 11, 23, 12), utc(2026, 11, 23, 1)),
        ("0 2 * * *", BERLIN, utc(2026, 7, 1, 12), utc(2026, 7, 1, 0)),
        # It is tomorrow there already.
        ("0 1 * * *", "Pacific/Auckland", utc(2026, 7, 1, 13, 30), utc(2026, 7, 1, 13)),
        ("*/15 9-17 * * mon-fri", "UTC", utc(2026, 11, 22, 12), utc(2026, 11, 20, 17, 45)),
        ("30 4 1 1 *", "UTC", utc(2026, 11, 23), utc(2026, 1, 1, 4, 30)),
        ("0 0 29 2 *", "UTC", utc(2026, 11, 23), utc(2024, 2, 29)),
        # 02:30 is not there on that day, and comes an hour later by its name.
        ("30 2 * * *", BERLIN, utc(2026, 3, 29, 12), utc(2026, 3, 29, 1, 30)),
        # 02:30 is there twice, and counts the first time.
        ("30 2 * * *", BERLIN, utc(2026, 10, 25, 12), utc(2026, 10, 25, 0, 30)),
    ],
)
def test_a_time_of_day_is_found_in_its_time_zone(cron: str, zone: str, now: datetime, expected: datetime):
    assert cron_at(cron, zone).latest(now) == expected


def test_every_day_has_its_moment_once_whatever_the_clocks_do():
    calendar = cron_at("30 2 * * *", BERLIN)

    assert calendar.count(utc(2025, 12, 31, 12), utc(2026, 12, 31, 12)) == 365
    assert calendar.count(utc(2026, 10, 24, 22), utc(2026, 10, 25, 22)) == 1
    assert calendar.count(utc(2026, 3, 28, 23), utc(2026, 3, 29, 22)) == 1


def test_what_can_never_be_is_never_due():
    every = frozenset(range(60))
    never = Calendar(
        minutes=every,
        hours=frozenset({0}),
        weekdays=every,
        days=frozenset({31}),
        months=frozenset({2}),
        zone=ZoneInfo("UTC"),
    )

    assert never.latest(NOON) is None
    assert decide(backup(never), tick(0), None, NOON) is None


def test_a_time_of_day_is_looked_at_again_with_the_next_minute():
    assert cron_at("0 2 * * *").look_again(at(61)) == at(120)


def test_a_bare_crontab_is_in_utc():
    assert cadence_of(crontab(hour=2, minute=0)) == cron_at("0 2 * * *", "UTC")


# decisions


@pytest.mark.parametrize(
    ("which", "known", "now", "expected"),
    [
        # new: it begins with its next moment
        (probe(), None, 7, (5, False, 0, False)),
        (backup(), None, 7, (0, False, 0, False)),
        # nothing new is due
        (probe(), tick(5), 9.9, None),
        (backup(), tick(0), 9.9, None),
        # on time, or late and still worth it
        (probe(), tick(0), 5, (5, True, 0, False)),
        (probe(), tick(0), 9, (5, True, 0, False)),
        (backup(), tick(0), 10.01, (10, True, 0, False)),
        # too late: dropped, or made up
        (probe(), tick(0), 9.5, (5, False, 1, False)),
        (backup(), tick(0), 15, (10, True, 1, False)),
        # several were missed: one message at most
        (probe(), tick(0), 20.1, (20, True, 3, False)),
        (probe(), tick(0), 24.5, (20, False, 4, False)),
        (backup(), tick(0), 30.1, (30, True, 2, False)),
        (backup(), tick(0), 38, (30, True, 3, False)),
        # the broker did not take it
        (backup(), tick(0, OWED), 0.1, (0, True, 0, True)),
        (backup(), tick(0, OWED), 10.1, (10, True, 1, False)),
        # claimed by somebody who said no more: it may have been sent, until it would have expired
        (backup(), tick(0, CLAIMED), 4, None),
        (backup(), tick(0, CLAIMED), 4.1, (0, True, 0, True)),
        (backup(), tick(0, CLAIMED), 10.1, (10, True, 1, False)),
        (probe(), tick(5, CLAIMED), 9.9, None),
        (probe(), tick(0, CLAIMED), 5, (5, True, 0, False)),
        # claimed by a clock that was ahead
        (probe(), tick(5), 4, None),
        (probe(), tick(5), 0, None),
        (probe(), tick(5), -0.1, (-5, False, 0, False)),
        (probe(), tick(20), 4, (0, False, 0, False)),
        (probe(1.0, 1.0), tick(5), 0, None),
        (probe(1.0, 1.0), tick(6), 0, (0, False, 0, False)),
        (backup(), tick(10), 4, None),
    ],
)  # fmt: skip
def test_what_is_done_about_an_entry(which: Entry, known: Tick | None, now: float, expected):
    assert said(decide(which, known, None, at(now))) == expected


def test_a_daily_backup_is_not_done_again_when_a_clock_steps_back_over_it():
    daily = backup(cron_at("0 12 * * *"))

    assert decide(daily, tick(0), None, at(-300)) is None
    assert decide(daily, tick(0), None, at(1)) is None


@pytest.mark.parametrize(
    ("succeeded", "now", "expected"),
    [
        (None, 5, (0, True, 0, True)),
        (-1, 5, (0, True, 0, True)),
        (0, 5, None),
        (3, 5, None),
        (3, 10.1, (10, True, 0, False)),
    ],
)
def test_a_tick_whose_effect_is_there_is_owed_no_more(succeeded: float | None, now: float, expected):
    ended = None if succeeded is None else at(succeeded)

    assert said(decide(backup(), tick(0, OWED), ended, at(now))) == expected


# the table


def test_the_table_has_every_entry_of_the_closed_list_once():
    assert sorted(row[0] for row in SCHEDULE) == sorted(ScheduleEntry)


@pytest.mark.parametrize("row", entries_of(SCHEDULE), ids=lambda row: row.name)
def test_a_message_expires_before_the_next_but_one_is_due(row: Entry):
    latest = row.cadence.latest(NOON)

    assert row.expires_s <= (row.cadence.look_again(NOON) - latest).total_seconds()
