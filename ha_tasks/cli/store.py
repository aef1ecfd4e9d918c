"""``ha-tasks store``: whether the state store may be acted on, and a person's word that it may."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from ha_tasks.cli.lines import BAD, GOOD, HEAD, WARN, Line
from ha_tasks.cli.session import Session, pass_session, person, with_home, with_json
from ha_tasks.model.plain import Json

NOT_TRUSTED = 3


@click.group("store")
@with_home
@with_json
def command() -> None:
    """Whether the state store may be acted on, and a person's word that it may."""


@command.command("show")
@with_home
@with_json
@pass_session
def show(session: Session) -> int:
    """Compare the store with what this home and the agents remember.

    Exit status 3 while nothing acts by it.
    """
    content = session.system().store_approval.standing().to_json()
    session.result(content, show_lines)
    return 0 if content["trusted"] else NOT_TRUSTED


@command.command("approve")
@click.option(
    "--without",
    multiple=True,
    metavar="AGENT",
    help="Go on without this agent, which does not answer: a node, or host/unit. May be repeated.",
)
@with_home
@with_json
@pass_session
def approve(session: Session, without: Sequence[str]) -> int:
    """Let everything act by this store: after a restore, a failover or the loss of the store.

    Each cluster gets an epoch above all that the store and the agents know, with the primary that its
    servers show now; fences go on above the highest; runs that stood open are ended.
    """
    content = session.system().store_approval.approve(person(), without).to_json()
    session.result(content, approve_lines)
    return 0


def show_lines(content: Json) -> Iterator[Line]:
    """The verdict, then the numbers beside each other."""
    yield [("store ", HEAD), content["store_id"]]
    if content["trusted"]:
        yield [("it is trusted", GOOD), ": what fails is recovered by it"]
    else:
        yield [("nothing acts: ", BAD), content["reason"]]
    for cluster in content["clusters"]:
        yield [
            f"{cluster['name']}: epoch {cluster['epoch'] or '-'}, agents have seen {cluster['epoch_seen']}"
        ]
    yield [f"fence {content['fence']}, agents have seen {content['fence_seen']}"]
    if content["silent"]:
        yield [("no answer from the agents of ", WARN), ", ".join(content["silent"])]


def approve_lines(content: Json) -> Iterator[Line]:
    """How each cluster is led now."""
    for cluster in content["clusters"]:
        yield [
            (cluster["name"], HEAD),
            f": epoch {cluster['epoch']}, primary {cluster['primary']}, "
            f"commits wait for {' and '.join(filter(None, cluster['sync'])) or 'nobody'}",
        ]
    if content["ended_runs"]:
        yield [f"ended: run {', '.join(map(str, content['ended_runs']))}"]
    if content["left_runs"]:
        yield [("still open: run ", WARN), ", ".join(map(str, content["left_runs"]))]
    yield [("the store is approved", GOOD), ": what fails is recovered by it"]
