"""``ha-tasks maintenance``: times in which nothing is recovered by itself, because somebody works there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TypeVar

import click

from ha_tasks.cli.lines import GOOD, HEAD, WARN, Line, columns, moment
from ha_tasks.cli.numbers import NUMBER
from ha_tasks.cli.session import Session, pass_session, person, with_home, with_json
from ha_tasks.cli.switch import beyond, beyond_lines, scope_of
from ha_tasks.errors import UsageError
from ha_tasks.model import maintenance as model
from ha_tasks.model.maintenance import Weekly, Window
from ha_tasks.model.plain import Json
from ha_tasks.model.switch import shown
from ha_tasks.ports.maintenance import NewWindow

Value = TypeVar("Value")


@click.group("maintenance")
@with_home
@with_json
def command() -> None:
    """Times in which nothing is recovered by itself. What a person asks for is recovered all the same."""


@command.command("add")
@click.argument("scope")
@click.option("--for", "lasts", metavar="2h", help="From now on, for so long: 2h, 90m, 1d, 1h30m.")
@click.option("--from", "begins", metavar="T", help="From this moment on: 2026-11-28T02:00.")
@click.option("--until", "ends", metavar="T", help="Until this moment; without --from, from now on.")
@click.option("--weekly", "rule", metavar="RULE", help='Each week: "sat 02:00-04:00", "daily 03:00-03:30".')
@click.option("--tz", default="UTC", show_default=True, help="Time zone of these times: Europe/Berlin.")
@click.option("--reason", default="", help="Why; shown wherever the window is.")
@with_home
@with_json
@pass_session
def add(
    session: Session,
    *,
    scope: str,
    lasts: str | None,
    begins: str | None,
    ends: str | None,
    rule: str | None,
    tz: str,
    reason: str,
) -> None:
    """Announce a window for SCOPE, a service or `everything`. One of --for, --until and --weekly.

    A weekly window keeps to the wall clock of its zone: an hour that comes twice belongs to it both
    times, a time that is jumped over comes at the jump.
    """
    system = session.system()
    now = system.clock.now()
    starts_at, ends_at, by_rule = _times(now, lasts=lasts, begins=begins, ends=ends, rule=rule, tz=tz)
    new = NewWindow(
        scope=scope_of(system.platform, scope),
        actor=person(),
        reason=reason,
        starts_at=starts_at,
        ends_at=ends_at,
        rule=by_rule,
    )
    window = system.store.maintenance.add(new, now)
    content = {"at": now.isoformat(), "windows": [described(window, now)]}
    session.result({**content, "not_held": beyond(system.platform, [shown(window.scope)])}, lines)


@command.command("list")
@with_home
@with_json
@pass_session
def list_windows(session: Session) -> None:
    """Windows that are open or will open."""
    system = session.system()
    now = system.clock.now()
    windows = [described(window, now) for window in system.store.maintenance.standing(now)]
    said = beyond(system.platform, [w["scope"] for w in windows])
    session.result({"at": now.isoformat(), "windows": windows, "not_held": said}, lines)


@command.command("end")
@click.argument("number", type=NUMBER, metavar="ID")
@with_home
@with_json
@pass_session
def end(session: Session, number: int) -> None:
    """End window ID: it is over, and opens no more."""
    system = session.system()
    now = system.clock.now()
    try:
        window = system.store.maintenance.end(number, now, person())
    except KeyError:
        raise UsageError(f"there is no window {number}; see: ha-tasks maintenance list") from None
    session.result({"at": now.isoformat(), "windows": [described(window, now)]}, lines)


def _times(
    now: datetime, *, lasts: str | None, begins: str | None, ends: str | None, rule: str | None, tz: str
) -> tuple[datetime | None, datetime | None, Weekly | None]:
    """Start, end and rule of a NewWindow. UsageError says what is wrong with them."""
    if sum(given is not None for given in (lasts, ends, rule)) != 1 or (begins and rule):
        raise UsageError("write one of --for, --until (with or without --from) and --weekly")
    _read(lambda: model.zone_of(tz))
    if rule is not None:
        return None, None, _read(lambda: model.weekly(rule, tz))
    starts_at = now if begins is None else _read(lambda: model.moment(begins, tz, first=True))
    if ends is None:
        ends_at = _read(lambda: starts_at + model.length(lasts or ""))
    else:
        ends_at = _read(lambda: model.moment(ends, tz, first=False))
    if ends_at <= max(starts_at, now):
        raise UsageError(f"the window would be over at {ends_at:%Y-%m-%d %H:%M} UTC; give it a later end")
    return starts_at, ends_at, None


def _read(value: Callable[[], Value]) -> Value:
    try:
        return value()
    except ValueError as error:
        raise UsageError("; ".join(str(part) for part in error.args)) from None
    except OverflowError:
        raise UsageError("that is too far away; no calendar reaches there") from None


def described(window: Window, now: datetime) -> Json:
    """A window as plain JSON; ``opens``/``closes``: the time it is open now, else the next."""
    span = window.occurrence(now)
    return {
        "id": window.id,
        "scope": shown(window.scope),
        "open": span is not None and span.holds(now),
        "opens": span and span.starts_at.isoformat(),
        "closes": span and span.ends_at.isoformat(),
        "weekly": window.rule and str(window.rule),
        "by": window.actor,
        "reason": window.reason,
        "ended_at": window.ended_at and window.ended_at.isoformat(),
        "ended_by": window.ended_by,
    }


def lines(content: Json) -> Iterator[Line]:
    """A line for each window."""
    now = content["at"]
    if not content["windows"]:
        yield [("no maintenance is announced", GOOD)]
    yield from columns(
        ["ID", "SCOPE", "STATE", "FROM (UTC)", "UNTIL (UTC)", "EACH WEEK", "BY", "WHY"],
        [
            [
                (str(w["id"]), HEAD),
                w["scope"],
                ("open", WARN) if w["open"] else ("ended" if w["closes"] is None else "to come"),
                moment(w["opens"], now),
                moment(w["closes"], now),
                w["weekly"] or "-",
                w["ended_by"] or w["by"],
                w["reason"],
            ]
            for w in content["windows"]
        ],
    )
    yield from beyond_lines(content)


def open_lines(windows: Sequence[Json], now: str) -> Iterator[Line]:
    """A line for each window that is open, for ``ha-tasks status``."""
    for window in windows:
        if window["open"]:
            why = f" ({window['reason']})" if window["reason"] else ""
            until = moment(window["closes"], now)
            yield [
                (f"maintenance of {window['scope']} until {until} UTC", WARN),
                f", by {window['by']}{why}: nothing is recovered by itself; "
                f"end it: ha-tasks maintenance end {window['id']}",
            ]
