"""The options by which a person lets data be lost, for whoever has to promote without proof."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ha_tasks.errors import UsageError
from ha_tasks.model.fault import closest
from ha_tasks.model.platform import Service
from ha_tasks.model.playbook import Acceptance

Command = TypeVar("Command", bound=Callable[..., Any])


def with_confirm_off(command: Command) -> Command:
    """Adds ``--confirm-off NODE``, as the argument ``off``."""
    option = click.option(
        "--confirm-off",
        "off",
        multiple=True,
        metavar="NODE",
        help="You have seen to it that NODE is off and stays off. For --accept-data-loss; may be repeated.",
    )
    return option(command)


def acceptance_of(service: Service, accepted_bytes: int | None, off: tuple[str, ...]) -> Acceptance | None:
    """None: nothing may be lost. UsageError for a node that is none, or that is off for nothing."""
    known = [i.name for i in service.instances]
    for node in off:
        if node not in known:
            raise UsageError(f'{service.name} has no node "{node}"; {closest(node, known)}')
    if accepted_bytes is None:
        if off:
            raise UsageError("--confirm-off is for --accept-data-loss=BYTES; name how much may be lost")
        return None
    return Acceptance(bytes=accepted_bytes, off=off)
