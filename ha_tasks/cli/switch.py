"""``ha-tasks switch``: switch the automation off, let it only observe, or let it act."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

import click

from ha_tasks.cli.lines import BAD, GOOD, WARN, Line, moment, since
from ha_tasks.cli.session import Records, Session, pass_session, person, with_home, with_json
from ha_tasks.errors import UsageError
from ha_tasks.model.fault import closest
from ha_tasks.model.led_by_others import not_held
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Platform
from ha_tasks.model.switch import EVERYTHING, EVERYTHING_WORD, OBSERVE, STOP

MODES = {"off": STOP, "stop": STOP, "observe": OBSERVE}
"""Word of the command line -> name of the switch; ``stop`` is what ``off`` was called first."""
SWITCHES = (STOP, OBSERVE)


@click.command("switch")
@click.argument("to", type=click.Choice([*MODES, "on"]), required=False)
@click.argument("scope", required=False, metavar="[SCOPE]")
@click.option("--reason", default="", help="Why; shown wherever the switch is.")
@with_home
@with_json
@pass_session
def command(session: Session, to: str | None, scope: str | None, reason: str) -> None:
    """off: nothing is recovered, a run that is under way ends between two steps. observe: incidents are
    opened, nothing is changed. on: both are released. Without an argument: how it stands.

    SCOPE is a service; left out, it is everything. What is off for everything is off for each service, and
    `on` for everything leaves a service off that was switched off by its own name.
    """
    system = session.system()
    now = system.clock.now()
    if to is not None:
        about = scope_of(system.platform, scope)
        for name in SWITCHES if to == "on" else (MODES[to],):
            system.store.limits.set_switch(name, to != "on", person(), reason, now, scope=about)
    content = standing(system.store, now)
    scopes = [switch["scope"] for switch in content["engaged"]]
    session.result({**content, "not_held": beyond(system.platform, scopes)}, lines)


def beyond(platform: Platform, scopes: Iterable[str]) -> list[str]:
    """What is said of services within these scopes (as they are shown) that others lead."""
    words = set(scopes)
    services = platform.services.values()
    return list(not_held(s for s in services if EVERYTHING_WORD in words or s.name in words))


def scope_of(platform: Platform, word: str | None) -> str:
    """The scope that a person wrote; UsageError with the nearest service."""
    if word in (None, EVERYTHING, EVERYTHING_WORD):
        return EVERYTHING
    if word not in platform.services:
        known = [*platform.services, EVERYTHING_WORD]
        raise UsageError(f'there is no service "{word}"; {closest(str(word), known)}')
    return str(word)


def standing(store: Records, now: datetime) -> Json:
    """How the switches stand. ``switches``: of everything, who engaged each; ``engaged``: all of them."""
    return {
        "at": now.isoformat(),
        "switches": {name: store.limits.switch(name) for name in SWITCHES},
        "engaged": engaged(store),
    }


def engaged(store: Records) -> list[Json]:
    """Every switch that is engaged, with the way back."""
    return [
        {
            "mode": "off" if switch.name == STOP else switch.name,
            "scope": switch.scope or EVERYTHING_WORD,
            "by": switch.actor,
            "reason": switch.reason,
            "since": switch.since.isoformat(),
            "way_back": switch.way_back,
        }
        for switch in store.limits.switches()
        if switch.name in SWITCHES
    ]


def lines(content: Json) -> Iterator[Line]:
    """Who has engaged what, since when, and the way back."""
    if not content["engaged"]:
        yield [("automation is on", GOOD), ": what fails is recovered"]
    for switch in content["engaged"]:
        yield switch_line(switch, content["at"])
    yield from beyond_lines(content)


def beyond_lines(content: Json) -> Iterator[Line]:
    """Whom it does not hold."""
    for said in content.get("not_held", ()):
        yield [("not held: ", WARN), said]


def switch_line(switch: Json, now: str) -> Line:
    """One engaged switch."""
    style, what = (BAD, "is off") if switch["mode"] == "off" else (WARN, "only observes")
    why = f" ({switch['reason']})" if switch["reason"] else ""
    began = f"since {moment(switch['since'], now)}, {since(switch['since'], now)} ago"
    return [
        (f"automation {what} for {switch['scope']}", style),
        f", by {switch['by']} {began}{why}: nothing is recovered; let it act again: {switch['way_back']}",
    ]
