"""``ha-tasks demo``: a whole platform with its guardian, on this machine."""

from __future__ import annotations

import sys

import click

from ha_tasks.cli.session import Session, pass_session, with_home
from ha_tasks.errors import UsageError


@click.command("demo")
@click.option("--detach", is_flag=True, help="Return when all is green; it goes on in the background.")
@click.option("--stop", is_flag=True, help="Stop the demo of this home, in order.")
@click.option("--purge", is_flag=True, help="With --stop: delete its home as well.")
@click.option(
    "--standbys", type=click.IntRange(1, 8), help="Standbys of a new PostgreSQL cluster [default: 2]."
)
@click.option(
    "--postgres",
    type=click.Choice(["debian", "wheel"]),
    help="Whose PostgreSQL: the distribution's, or that of the pip wheel [default: the wheel's if there].",
)
@with_home
@pass_session
def command(
    session: Session, /, *, detach: bool, stop: bool, purge: bool, standbys: int | None, postgres: str | None
) -> int:
    """Start, or stop, a whole platform with its guardian on this machine.

    PostgreSQL with its standbys, a cache, three HTTP services, HAProxy, broker, workers, two beats, Flower
    and metrics: all real, all on loopback, for development only. Ctrl-C ends it.
    """
    if purge and not stop:
        raise UsageError("--purge goes with --stop: ha-tasks demo --stop --purge")
    if stop and detach:
        raise UsageError("--stop and --detach exclude each other")
    if stop and (standbys or postgres):
        raise UsageError("--standbys and --postgres are for a start, not for --stop")
    from ha_tasks.cli.live import watch_home
    from ha_tasks.embedded import demo
    from ha_tasks.embedded.live import Wishes

    if stop:
        return demo.stop(session.root, purge=purge, echo=click.echo)
    # A picture that changes is for a terminal; anywhere else plain lines tell what happens.
    view = watch_home if sys.stdout.isatty() else None
    wishes = Wishes(standbys=standbys, postgres=postgres)
    return demo.start(session.root, detach=detach, echo=click.echo, view=view, wishes=wishes)
