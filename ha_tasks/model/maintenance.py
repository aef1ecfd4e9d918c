"""Maintenance windows: once, or every week by the clock on somebody's wall. Pure.

A weekly window is open while the wall clock of its zone stands between its two times. Where the clock
is put forward, a time that it jumps over is reached at the jump; where it is put back, an hour that comes
twice belongs to the window both times. A window that lies wholly in the hour that is skipped is open for
as long as it is written, from the jump on: whoever planned work for it gets the time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ha_tasks.model.fault import closest
from ha_tasks.model.plain import Json
from ha_tasks.model.switch import EVERYTHING

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAILY = "daily"
_WEEKLY = re.compile(r"^(?P<days>\S+)\s+(?P<start>\d\d:\d\d)-(?P<end>\d\d:\d\d)$")
_LENGTH = re.compile(r"^(?:(?P<d>\d+)d)?(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m)?$")
DAY_MINUTES = 24 * 60
IN_DOUBT_FOR = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """From ``starts_at`` until just before ``ends_at``, aware UTC."""

    starts_at: datetime
    ends_at: datetime

    def holds(self, moment: datetime) -> bool:
        """True within it."""
        return self.starts_at <= moment < self.ends_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Weekly:
    """On these days (0 is Monday), from minute to minute of the local day; an end at or before the start
    is on the next day. ``start`` 0 to 1439, ``end`` 1 to 1440.
    """

    days: tuple[int, ...]
    start: int
    end: int
    tz: str

    def on(self, day: date) -> Span:
        """The window that begins on that local day."""
        zone = zone_of(self.tz)
        length = (self.end - self.start) % DAY_MINUTES or DAY_MINUTES
        begin = datetime.combine(day, time()) + timedelta(minutes=self.start)
        starts_at = _reached(begin, zone, first=True)
        ends_at = _reached(begin + timedelta(minutes=length), zone, first=False)
        if ends_at <= starts_at:
            ends_at = starts_at + timedelta(minutes=length)
        return Span(starts_at=starts_at, ends_at=ends_at)

    def spans(self, now: datetime) -> Iterator[Span]:
        """Those that may hold ``now``, and those of the week to come, in their order."""
        today = now.astimezone(zone_of(self.tz)).date()
        for offset in range(-2, 9):
            day = today + timedelta(days=offset)
            if day.weekday() in self.days:
                yield self.on(day)

    def to_json(self) -> Json:
        """As it is stored."""
        return {"days": list(self.days), "start": self.start, "end": self.end, "tz": self.tz}

    @classmethod
    def from_json(cls, body: Mapping[str, object]) -> Weekly:
        """What ``to_json`` gave."""
        days = body["days"]
        assert isinstance(days, list | tuple)  # noqa: S101 - our own column
        return cls(
            days=tuple(int(day) for day in days),
            start=int(str(body["start"])),
            end=int(str(body["end"])),
            tz=str(body["tz"]),
        )

    def __str__(self) -> str:
        """As a person writes it."""
        days = DAILY if len(self.days) == len(DAYS) else ",".join(DAYS[day] for day in self.days)
        return f"{days} {_clock(self.start)}-{_clock(self.end)} {self.tz}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One window. Either ``starts_at`` and ``ends_at``, or ``rule``. ``scope``: a service or EVERYTHING.

    ``ended_at``: a person ended it, and it opens no more.
    """

    id: int
    scope: str
    actor: str
    reason: str
    created_at: datetime
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    rule: Weekly | None = None
    ended_at: datetime | None = None
    ended_by: str | None = None

    def occurrence(self, now: datetime) -> Span | None:
        """The one that is open now, else the next to come; None when it is over for good."""
        if self.ended_at is not None:
            return None
        return next((span for span in self._spans(now) if span.ends_at > now), None)

    def _spans(self, now: datetime) -> Iterator[Span]:
        if self.rule is not None:
            try:
                yield from self.rule.spans(now)
            except ValueError:
                # Its zone is not known on this host: who cannot tell whether it is open does not act.
                yield Span(starts_at=now, ends_at=now + IN_DOUBT_FOR)
        elif self.starts_at is not None and self.ends_at is not None:
            yield Span(starts_at=self.starts_at, ends_at=self.ends_at)


def open_now(windows: Iterable[Window], service: str, now: datetime) -> tuple[Window, datetime] | None:
    """The window that holds the service now, the one that ends last, and its end; None when none does."""
    held = [
        (window, span.ends_at)
        for window in windows
        if window.scope in (EVERYTHING, service)
        and (span := window.occurrence(now)) is not None
        and span.holds(now)
    ]
    return max(held, key=lambda each: each[1], default=None)


def zone_of(name: str) -> ZoneInfo:
    """The time zone of that name. ValueError(problem, mending) when there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        near = closest(name, ("UTC", "Europe/Berlin", "Europe/London", "America/New_York", "Asia/Tokyo"))
        raise ValueError(f'there is no time zone "{name}"', near) from None


def weekly(text: str, tz: str) -> Weekly:
    """The rule of ``sat 02:00-04:00`` or ``mon,thu 23:30-00:30`` or ``daily 03:00-03:30``.

    ValueError(problem, mending) when it cannot be read.
    """
    zone_of(tz)
    form = 'write it like "sat 02:00-04:00", "mon,thu 23:30-00:30" or "daily 03:00-03:30"'
    found = _WEEKLY.match(text.strip().lower())
    if found is None:
        raise ValueError(f'"{text}" is no weekly window', form)
    start, end = _minute(found["start"]), _minute(found["end"])
    days = _days(found["days"])
    if start is None or end is None or start == DAY_MINUTES or days is None:
        raise ValueError(f'"{text}" names a day or a time that does not exist', form)
    if start == end:
        raise ValueError(f'"{text}" has no length', "for a whole day write 00:00-24:00")
    return Weekly(days=days, start=start, end=end or DAY_MINUTES, tz=tz)


def length(text: str) -> timedelta:
    """How long ``2h``, ``90m``, ``1d`` or ``1h30m`` is. ValueError(problem, mending) when it is no time."""
    found = _LENGTH.match(text.strip().lower())
    parts = {} if found is None else {unit: int(n) for unit, n in found.groupdict().items() if n}
    span = timedelta(days=parts.get("d", 0), hours=parts.get("h", 0), minutes=parts.get("m", 0))
    if not span:
        raise ValueError(f'"{text}" is no length of time', "write it like 2h, 90m, 1d or 1h30m")
    return span


def moment(text: str, tz: str, *, first: bool) -> datetime:
    """The moment of ``2026-11-28T02:00`` on the wall clock of ``tz``, or with an offset of its own; UTC.

    ``first``: of a time that comes twice the first. ValueError(problem, mending) when it is no moment.
    """
    zone = zone_of(tz)
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f'"{text}" is no moment', "write it like 2026-11-28T02:00") from None
    return _reached(found, zone, first=first) if found.tzinfo is None else found.astimezone(UTC)


def _reached(wall: datetime, zone: ZoneInfo, *, first: bool) -> datetime:
    """When the wall clock shows ``wall``, or jumps over it; of two such moments the first or the last."""
    moments = [wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
    if moments[0] > moments[1]:  # only in a gap: fold 0 reckons by what was before the jump
        return _jump(moments[1], moments[0], zone)
    return moments[0 if first else 1]


def _jump(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """The second at which the zone's offset changes between the two moments."""
    old = before.astimezone(zone).utcoffset()
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
        if middle.astimezone(zone).utcoffset() == old:
            before = middle
        else:
            after = middle
    return after


def _days(text: str) -> tuple[int, ...] | None:
    if text == DAILY:
        return tuple(range(len(DAYS)))
    words = text.split(",")
    return tuple(sorted({DAYS.index(w) for w in words})) if set(words) <= set(DAYS) else None


def _minute(text: str) -> int | None:
    hours, minutes = int(text[:2]), int(text[3:])
    if (hours, minutes) == (24, 0):
        return DAY_MINUTES
    return hours * 60 + minutes if hours < 24 and minutes < 60 else None


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"
