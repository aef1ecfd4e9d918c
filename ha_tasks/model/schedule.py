"""The schedule's rules, pure: when an entry is due, and what is to be done about it now.

An entry's moments are a grid that every host computes alike from UTC alone, so that the moment itself
names the tick: whoever claims it in the store has it, and nobody else can have the same one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from itertools import product
from typing import Protocol
from zoneinfo import ZoneInfo

from ha_tasks.names import Handling

CLOCKS_APART = timedelta(seconds=5)
"""Two hosts' clocks may differ by that much; a claim further ahead was made by a clock that was wrong."""

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)
_LONGEST_GAP_DAYS = 366 * 41
"""A 29 February on a given day of the week comes after 40 years at the latest."""


class Cadence(Protocol):
    """The moments at which an entry is due. All aware UTC."""

    def latest(self, now: datetime) -> datetime | None:
        """The newest moment that is not after ``now``; None when there never was one."""
        ...

    def count(self, after: datetime, until: datetime) -> int:
        """How many moments there are after ``after`` and not after ``until``."""
        ...

    def look_again(self, now: datetime) -> datetime:
        """A moment after ``now`` and not after the next one that is due."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Every:
    """Every ``seconds``, counted from 1970, so that a restart does not shift it."""

    seconds: float

    def latest(self, now: datetime) -> datetime:
        """See Cadence."""
        return _BEGINNING + self._number(now) * timedelta(seconds=self.seconds)

    def count(self, after: datetime, until: datetime) -> int:
        """See Cadence."""
        return max(0, self._number(until) - self._number(after))

    def look_again(self, now: datetime) -> datetime:
        """See Cadence."""
        return self.latest(now) + timedelta(seconds=self.seconds)

    def _number(self, moment: datetime) -> int:
        return (moment - _BEGINNING) // timedelta(seconds=self.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """Days and times of day as they are called in a time zone; ``weekdays`` count from Sunday, 0.

    A time that a day does not have (the clocks go forward) comes an hour later by its name, one that it
    has twice comes the first time only: "daily at 02:30" is once a day on every day.
    """

    minutes: frozenset[int]
    hours: frozenset[int]
    weekdays: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    zone: ZoneInfo

    def latest(self, now: datetime) -> datetime | None:
        """See Cadence."""
        # By its name a moment may lie on the day after the one on which the clocks put it.
        newest = now.astimezone(self.zone).date() + _DAY
        for back in range(_LONGEST_GAP_DAYS):
            moments = _moments(self, newest - back * _DAY)
            passed = bisect_right(moments, now)
            if passed:
                return moments[passed - 1]
        return None

    def count(self, after: datetime, until: datetime) -> int:
        """See Cadence."""
        return sum(
            after < moment <= until for day in self._days(after, until) for moment in _moments(self, day)
        )

    def look_again(self, now: datetime) -> datetime:
        """See Cadence."""
        return now - (now - _BEGINNING) % _MINUTE + _MINUTE

    def _days(self, after: datetime, until: datetime) -> Iterator[date]:
        day, last = after.astimezone(self.zone).date() - _DAY, until.astimezone(self.zone).date() + _DAY
        while day <= last:
            yield day
            day += _DAY


@lru_cache(maxsize=256)
def _moments(calendar: Calendar, day: date) -> tuple[datetime, ...]:
    """The day's moments in UTC, oldest first."""
    named = day.month in calendar.months and day.day in calendar.days
    if not named or day.isoweekday() % 7 not in calendar.weekdays:
        return ()
    times = product(calendar.hours, calendar.minutes)
    local = (datetime(day.year, day.month, day.day, *time, tzinfo=calendar.zone) for time in times)
    return tuple(sorted({moment.astimezone(UTC) for moment in local}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A row of the schedule: ``task`` goes to ``queue`` whenever the cadence says so.

    ``expires_s``: a message that waited that long is not worth anything any more; neither is a tick that
    is noticed that late. ``missed``: what happens to a tick that could not be sent in time.
    """

    name: str
    task: str
    cadence: Cadence
    queue: str
    expires_s: float
    missed: Handling


class TickState(StrEnum):
    """How far a claimed tick has come."""

    CLAIMED = "claimed"
    """Its message may have been sent or not: whoever claimed it has not said."""
    OWED = "owed"
    """The broker did not take its message."""
    SENT = "sent"
    """It is settled: its message was sent, or needs not be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """The newest tick of an entry that was claimed, under which fence, and since when it is as it is."""

    due_at: datetime
    fence: int
    state: TickState
    changed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What is to be done about an entry: claim ``due_at`` in place of ``before``, then ``send`` it or not.

    ``missed``: so many ticks have passed without a message of their own; those that are made up are
    made up together, by one message. ``again``: the tick was claimed before, and not sent as far as is known.
    """

    entry: Entry
    before: Tick | None
    due_at: datetime
    send: bool
    missed: int = 0
    again: bool = False


def state_when_claimed(move: Move) -> TickState:
    """Only what must not be lost waits for the broker's word: of the rest the claim is all that is heard."""
    waits = move.send and move.entry.missed is Handling.MADE_UP
    return TickState.CLAIMED if waits else TickState.SENT


def decide(entry: Entry, known: Tick | None, succeeded_at: datetime | None, now: datetime) -> Move | None:
    """What to do about an entry at ``now``; None: nothing. Pure.

    ``known``: the newest tick that anybody claimed; None: the entry is new, and begins with its next
    moment. ``succeeded_at``: when its task last ended well.
    """
    latest = entry.cadence.latest(now)
    if latest is None:
        return None
    if known is None:
        return Move(entry=entry, before=None, due_at=latest, send=False)
    if latest <= known.due_at:
        return _no_new_tick(entry, known, latest, succeeded_at, now)
    late = _expired(entry, latest, now)
    between = entry.cadence.count(known.due_at, latest) - 1
    return Move(
        entry=entry,
        before=known,
        due_at=latest,
        send=entry.missed is Handling.MADE_UP or not late,
        missed=between + late + _is_owed(entry, known, succeeded_at, now),
    )


def _no_new_tick(
    entry: Entry, known: Tick, latest: datetime, succeeded_at: datetime | None, now: datetime
) -> Move | None:
    if _is_owed(entry, known, succeeded_at, now):
        return Move(entry=entry, before=known, due_at=known.due_at, send=True, again=True)
    if known.due_at - now > CLOCKS_APART and entry.cadence.count(now, known.due_at) > 1:
        # A clock that was ahead claimed it. What it sent was sent, and the next moment is the next.
        return Move(entry=entry, before=known, due_at=latest, send=False)
    return None


def _is_owed(entry: Entry, known: Tick, succeeded_at: datetime | None, now: datetime) -> bool:
    """True for a claimed tick that must not be lost, and whose message is not, or no longer, in the broker.

    Somebody who died between claim and message may have sent it: another is sent only once that one would
    have expired, and only if it has had no effect by then.
    """
    if entry.missed is Handling.DROPPED or known.state is TickState.SENT:
        return False
    if succeeded_at is not None and succeeded_at >= known.due_at:
        return False
    return known.state is TickState.OWED or _expired(entry, known.changed_at, now)


def _expired(entry: Entry, since: datetime, now: datetime) -> bool:
    return now - since > timedelta(seconds=entry.expires_s)
