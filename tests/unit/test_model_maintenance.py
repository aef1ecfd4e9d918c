"""Maintenance windows: by the wall clock, over midnight, over both changes of the clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ha_tasks.model.maintenance import Span, Weekly, Window, length, moment, open_now, weekly, zone_of

BERLIN = "Europe/Berlin"
SPRING, AUTUMN = date(2026, 3, 29), date(2026, 10, 25)
"""Sundays: 02:00 becomes 03:00, and 03:00 becomes 02:00."""


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def window(**more) -> Window:
    plain = {"id": 1, "scope": "db", "actor": "anna", "reason": "disks", "created_at": utc("2026-01-01")}
    return Window(**plain | more)


def on(text: str, day: date, tz: str = BERLIN) -> tuple[str, str]:
    span = weekly(text, tz).on(day)
    return tuple(f"{moment:%m-%d %H:%M}" for moment in (span.starts_at, span.ends_at))


@pytest.mark.parametrize(
    ("text", "day", "expected"),
    [
        ("sat 02:00-04:00", date(2026, 11, 28), ("11-28 01:00", "11-28 03:00")),
        ("sat 02:00-04:00", date(2026, 6, 27), ("06-27 00:00", "06-27 02:00")),
        ("sat 23:30-00:30", date(2026, 11, 28), ("11-28 22:30", "11-28 23:30")),
        ("sun 00:00-24:00", date(2026, 11, 29), ("11-28 23:00", "11-29 23:00")),
        ("sun 22:00-00:00", date(2026, 11, 29), ("11-29 21:00", "11-29 23:00")),
        # The clock jumps at 01:00 UTC from 02:00 to 03:00.
        ("sun 01:30-04:00", SPRING, ("03-29 00:30", "03-29 02:00")),
        ("sun 02:30-04:00", SPRING, ("03-29 01:00", "03-29 02:00")),
        ("sun 01:00-02:30", SPRING, ("03-29 00:00", "03-29 01:00")),
        ("sun 02:15-02:45", SPRING, ("03-29 01:00", "03-29 01:30")),
        ("sun 02:00-03:00", SPRING, ("03-29 01:00", "03-29 02:00")),
        ("sat 23:00-03:30", SPRING - timedelta(days=1), ("03-28 22:00", "03-29 01:30")),
        # 02:00 to 03:00 comes twice, from 00:00 UTC and from 01:00 UTC.
        ("sun 02:00-04:00", AUTUMN, ("10-25 00:00", "10-25 03:00")),
        ("sun 02:30-02:45", AUTUMN, ("10-25 00:30", "10-25 01:45")),
        ("sun 01:00-02:30", AUTUMN, ("10-24 23:00", "10-25 01:30")),
        ("sat 23:30-02:30", AUTUMN - timedelta(days=1), ("10-24 21:30", "10-25 01:30")),
    ],
)
def test_a_weekly_window_keeps_to_the_wall_clock(text, day, expected):
    assert on(text, day) == expected


def test_without_a_zone_of_its_own_a_window_is_in_utc():
    assert on("sun 02:30-03:00", SPRING, "UTC") == ("03-29 02:30", "03-29 03:00")


@pytest.mark.parametrize("tz", ["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu"])
def test_in_every_zone_a_window_has_a_length_and_at_most_an_hour_more_than_it_says(tz):
    """Lord Howe puts its clock on by half an hour, St John's at one minute past midnight of old."""
    for text in ("daily 00:00-00:15", "daily 01:45-02:15", "daily 23:00-03:00"):
        rule = weekly(text, tz)
        said = timedelta(minutes=(rule.end - rule.start) % 1440)
        for offset in range(366):
            span = rule.on(date(2026, 1, 1) + timedelta(days=offset))
            assert timedelta(0) < span.ends_at - span.starts_at <= said + timedelta(hours=1)


def instants() -> st.SearchStrategy[datetime]:
    return st.integers(0, 4 * 366 * 86400).map(lambda seconds: utc("2024-01-01") + timedelta(seconds=seconds))


@settings(max_examples=200, deadline=None)
@given(
    days=st.sets(st.integers(0, 6), min_size=1),
    start=st.integers(0, 1439),
    minutes=st.integers(1, 1439),
    tz=st.sampled_from(["UTC", BERLIN, "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"]),
    now=instants(),
)
def test_a_window_is_open_exactly_while_the_wall_clock_says_so(days, start, minutes, tz, now):
    """Wherever the clock of the zone is not changed within a day of it."""
    zone = ZoneInfo(tz)
    around = [(now + timedelta(hours=h)).astimezone(zone).utcoffset() for h in range(-30, 31, 6)]
    rule = Weekly(days=tuple(sorted(days)), start=start, end=(start + minutes) % 1440 or 1440, tz=tz)
    span = window(rule=rule).occurrence(now)

    assert span is not None
    assert span.ends_at > now
    if len(set(around)) == 1:
        assert span.holds(now) == wall_says(rule, minutes, now.astimezone(zone))


def wall_says(rule: Weekly, minutes: int, local: datetime) -> bool:
    """The same by the simplest way: is there a day on which it began, not longer ago than it lasts?"""
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    wall = local.replace(tzinfo=None)
    begins = [midnight - timedelta(days=back) + timedelta(minutes=rule.start) for back in (0, 1)]
    return any(b.weekday() in rule.days and b <= wall < b + timedelta(minutes=minutes) for b in begins)


@settings(max_examples=100, deadline=None)
@given(now=instants(), start=st.integers(0, 1439), end=st.integers(1, 1440))
def test_windows_of_one_rule_come_in_their_order(now, start, end):
    if start == end:
        end = start + 1
    spans = list(Weekly(days=(0, 3, 6), start=start, end=end, tz=BERLIN).spans(now))

    assert all(a.starts_at < b.starts_at for a, b in pairwise(spans))


def test_a_window_of_once_is_open_from_its_start_until_just_before_its_end():
    once = window(starts_at=utc("2026-11-28T02:00"), ends_at=utc("2026-11-28T04:00"))
    span = Span(starts_at=utc("2026-11-28T02:00"), ends_at=utc("2026-11-28T04:00"))

    assert once.occurrence(utc("2026-11-01")) == span
    assert not span.holds(utc("2026-11-28T01:59"))
    assert span.holds(utc("2026-11-28T02:00"))
    assert once.occurrence(utc("2026-11-28T03:59")) == span
    assert once.occurrence(utc("2026-11-28T04:00")) is None
    assert window().occurrence(utc("2026-11-28")) is None


def test_a_window_that_was_ended_opens_no_more():
    rule = weekly("daily 00:00-24:00", "UTC")
    standing = window(rule=rule)

    assert standing.occurrence(utc("2026-11-28")) is not None
    assert replace(standing, ended_at=utc("2026-11-27")).occurrence(utc("2026-11-28")) is None


def test_of_windows_that_hold_a_service_the_one_that_ends_last_counts():
    now = utc("2026-11-28T02:30")
    short = window(id=1, starts_at=utc("2026-11-28T02:00"), ends_at=utc("2026-11-28T03:00"))
    everything = window(id=2, scope="", rule=weekly("sat 02:00-04:00", "UTC"))
    other = window(id=3, scope="web", rule=weekly("daily 00:00-24:00", "UTC"))
    later = window(id=4, starts_at=utc("2026-11-28T05:00"), ends_at=utc("2026-11-28T09:00"))

    assert open_now([short, everything, other, later], "db", now) == (everything, utc("2026-11-28T04:00"))
    assert open_now([short, later], "db", now) == (short, utc("2026-11-28T03:00"))
    assert open_now([other, later], "db", now) is None


@pytest.mark.parametrize(
    "text",
    ["sat 02:00-04:00 UTC", "mon,thu 23:30-00:30 UTC", "daily 03:00-03:30 UTC", "sun 00:00-24:00 UTC"],
)
def test_a_rule_is_shown_and_stored_as_it_was_written(text):
    rule = weekly(text.removesuffix(" UTC"), "UTC")

    assert str(rule) == text
    assert Weekly.from_json(rule.to_json()) == rule


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("saturday 02:00-04:00", "names a day or a time that does not exist"),
        ("sat 02:00-25:00", "names a day or a time that does not exist"),
        ("sat 02:60-03:00", "names a day or a time that does not exist"),
        ("sat 24:00-03:00", "names a day or a time that does not exist"),
        ("sat 02:00", "is no weekly window"),
        ("sat 02:00-02:00", "has no length"),
    ],
)
def test_a_rule_that_cannot_be_read_says_how_it_is_written(text, problem):
    with pytest.raises(ValueError, match=problem) as error:
        weekly(text, "UTC")

    assert "write" in error.value.args[1]


@pytest.mark.parametrize("name", ["Europe/Berlni", "", "../etc/passwd", "Mars/Olympus"])
def test_an_unknown_time_zone_is_an_error_that_names_it(name):
    with pytest.raises(ValueError, match="there is no time zone"):
        zone_of(name)


def test_a_mistyped_time_zone_is_answered_with_the_one_that_was_meant():
    with pytest.raises(ValueError, match="Berlni") as error:
        zone_of("Europe/Berlni")

    assert error.value.args == ('there is no time zone "Europe/Berlni"', 'did you mean "Europe/Berlin"?')


@pytest.mark.parametrize(
    ("text", "minutes"), [("2h", 120), ("90m", 90), ("1d", 1440), ("1h30m", 90), (" 1D2H3M ", 1563)]
)
def test_a_length_of_time_is_read(text, minutes):
    assert length(text) == timedelta(minutes=minutes)


@pytest.mark.parametrize("text", ["", "2", "h", "0m", "2 hours", "-1h"])
def test_what_is_no_length_of_time_is_refused(text):
    with pytest.raises(ValueError, match="is no length of time"):
        length(text)


@pytest.mark.parametrize(
    ("text", "first", "expected"),
    [
        ("2026-11-28T02:00", True, "2026-11-28T01:00"),
        ("2026-11-28 02:00", True, "2026-11-28T01:00"),
        ("2026-11-28T02:00Z", True, "2026-11-28T02:00"),
        ("2026-11-28T02:00-05:00", True, "2026-11-28T07:00"),
        ("2026-03-29T02:30", True, "2026-03-29T01:00"),
        ("2026-03-29T02:30", False, "2026-03-29T01:00"),
        ("2026-10-25T02:30", True, "2026-10-25T00:30"),
        ("2026-10-25T02:30", False, "2026-10-25T01:30"),
    ],
)
def test_a_moment_is_read_on_the_wall_clock_or_by_its_own_offset(text, first, expected):
    assert moment(text, BERLIN, first=first) == utc(expected)


def test_what_is_no_moment_is_refused():
    with pytest.raises(ValueError, match="is no moment"):
        moment("tomorrow", BERLIN, first=True)
