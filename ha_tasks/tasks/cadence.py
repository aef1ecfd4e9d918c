"""When an entry of the schedule is due, as its table says it: seconds, a crontab, a time in a time zone."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from celery.schedules import crontab

from ha_tasks.model.schedule import Cadence, Calendar, Every


def at(cron: str | crontab, zone: str = "UTC") -> Calendar:
    """``at("0 2 * * *", "Europe/Berlin")``: daily at 02:00 there. Minute, hour, day, month, day of the week.

    All of them must fit, as in Celery's own crontab: ``0 2 1 * mon`` is a first of the month on a Monday.
    Raises ValueError for what can never be, ZoneInfoNotFoundError for a time zone that is not known.
    """
    # Any: the stubs leave out the sets that Celery's parser makes.
    told: Any = crontab.from_string(cron) if isinstance(cron, str) else cron
    return Calendar(
        minutes=frozenset(told.minute),
        hours=frozenset(told.hour),
        weekdays=frozenset(told.day_of_week),
        days=frozenset(told.day_of_month),
        months=frozenset(told.month_of_year),
        zone=ZoneInfo(zone),
    )


def cadence_of(when: float | crontab | Calendar) -> Cadence:
    """Seconds as a grid in UTC, a bare crontab in UTC."""
    match when:
        case Calendar():
            return when
        case crontab():
            return at(when)
        case _:
            return Every(seconds=when)
