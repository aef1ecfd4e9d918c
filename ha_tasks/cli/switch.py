"""``ha-tasks switch``: stop the automation, let it only observe, or let it act."""

from __future__ import annotations

from collections.abc import Iterator

import click

from ha_tasks.cli.lines import BAD, GOOD, WARN, Line
from ha_tasks.cli.session import Session, pass_session, person, with_home, with_json
from ha_tasks.model.plain import Json

SWITCHES = ("stop", "observe")


@click.command("switch")
@click.argument("to", type=click.Choice([*SWITCHES, "on"]), required=False)
@click.option("--reason", default="", help="Why; kept with who did it.")
@with_home
@with_json
@pass_session
def command(session: Session, to: str | None, reason: str) -> None:
    """stop: nothing is done, a run that is under way ends between two steps. observe: incidents are
    opened, nothing is changed. on: both are released. Without an argument: how it stands.
    """
    system = session.system()
    limits = system.store.limits
    if to is not None:
        for name in SWITCHES if to == "on" else (to,):
            limits.set_switch(name, to != "on", person(), reason, system.clock.now())
    session.result({"switches": {name: limits.switch(name) for name in SWITCHES}}, lines)


def lines(content: Json) -> Iterator[Line]:
    """Who has engaged what, and the way back."""
    engaged = {name: who for name, who in content["switches"].items() if who is not None}
    if not engaged:
        yield [("automation is on", GOOD), ": what fails is recovered"]
    if "stop" in engaged:
        yield [("automation is stopped", BAD), f" by {engaged['stop']}: nothing is recovered"]
    if "observe" in engaged:
        yield [("automation only observes", WARN), f", set by {engaged['observe']}: nothing is changed"]
    if engaged:
        yield ["let it act again: ha-tasks switch on"]
