"""``ha-tasks broker``: what the broker has put aside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import click

from ha_tasks.cli.lines import BAD, DIM, GOOD, Line, columns
from ha_tasks.cli.session import Session, pass_session, with_home, with_json
from ha_tasks.model.plain import Json


@click.group("broker")
@with_home
@with_json
def command() -> None:
    """What the broker has put aside."""


@command.command("dead")
@click.option("--limit", default=20, type=click.IntRange(1, 1000), help="How many, the newest first.")
@click.option("--body", is_flag=True, help="Show the beginning of each body, whatever stands in it.")
@with_home
@with_json
@pass_session
def dead(session: Session, limit: int, body: bool) -> None:
    """Messages that no worker could take: why, when, from which queue. Takes nothing out."""
    from ha_tasks.bootstrap import dead_letters_of

    count, newest = dead_letters_of(session.inventory()).newest(limit)
    letters = [asdict(letter) for letter in newest]
    for letter in letters:
        if not body:
            del letter["body"]
    session.result({"count": count, "letters": letters}, lines)


def lines(content: Json) -> Iterator[Line]:
    """A line for each."""
    letters = content["letters"]
    if not letters:
        yield [("nothing was put aside", GOOD)]
        return
    yield [(f"{content['count']} put aside", BAD), f", the newest {len(letters)}:"]
    yield from columns(
        ["REASON", "WHEN", "QUEUE", "TASK", "BYTES", "DETAIL"],
        [
            [e["reason"], (e["at"], DIM), e["queue"], e["task"], str(e["size"]), (e["detail"], DIM)]
            for e in letters
        ],
    )
    for letter in letters:
        if letter.get("body"):
            yield [(f"{letter['queue']} {letter['at']}: ", DIM), ascii(letter["body"])]
