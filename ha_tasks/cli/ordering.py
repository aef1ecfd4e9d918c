"""Options of the commands by which a person orders a run, the same wherever they are."""

from __future__ import annotations

from collections.abc import Callable

import click

from ha_tasks.cli.numbers import seconds
from ha_tasks.cli.session import Command


def with_consent(command: Command) -> Command:
    """Adds ``--yes`` and ``--reason``."""
    reason = click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
    yes = click.option("--yes", is_flag=True, help="Begin without asking; needed where nobody can answer.")
    return yes(reason(command))


def with_waiting(within_s: float = 300.0, until: str = "the end") -> Callable[[Command], Command]:
    """Adds ``--local`` and ``--within`` (``within_s``, by default as given here)."""

    def adds(command: Command) -> Command:
        within = click.option(
            "--within",
            "within_s",
            type=seconds,
            default=within_s,
            show_default=True,
            help=f"Seconds to wait for {until}.",
        )
        local = click.option(
            "--local", is_flag=True, help="Take every step in this process: needs no broker and no worker."
        )
        return local(within(command))

    return adds
