"""What every command has: where the home is, how to print, how to get at the system."""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from ha_tasks.cli.lines import Line, show
from ha_tasks.errors import HaTasksError

if TYPE_CHECKING:
    from ha_tasks.bootstrap import System
    from ha_tasks.inventory import Inventory
    from ha_tasks.model.plain import Json
    from ha_tasks.ports.dispatch import Dispatch
    from ha_tasks.ports.identity import StoreIdentity
    from ha_tasks.ports.leadership import Leadership
    from ha_tasks.ports.ledger import Ledger
    from ha_tasks.ports.limits import Limits
    from ha_tasks.ports.maintenance import MaintenanceBook
    from ha_tasks.ports.repositories import (
        Clusters,
        DrillBook,
        HealthBook,
        Incidents,
        Journal,
        Observations,
        ReplicationBook,
        WantedServers,
    )
    from ha_tasks.ports.revisions import Revisions

Command = TypeVar("Command", bound=Callable[..., Any])


class Records(Protocol):
    """The repositories that views read; the store has them under these names."""

    @property
    def journal(self) -> Journal:
        """Runs."""
        ...

    @property
    def incidents(self) -> Incidents:
        """Incidents."""
        ...

    @property
    def observations(self) -> Observations:
        """Outcomes of probes."""
        ...

    @property
    def clusters(self) -> Clusters:
        """PostgreSQL clusters."""
        ...

    @property
    def limits(self) -> Limits:
        """Switches and cool-downs."""
        ...

    @property
    def maintenance(self) -> MaintenanceBook:
        """Maintenance windows."""
        ...

    @property
    def wanted(self) -> WantedServers:
        """What the balancers should look like."""
        ...

    @property
    def ledger(self) -> Ledger:
        """States, scores, workers."""
        ...

    @property
    def leadership(self) -> Leadership:
        """Who leads what."""
        ...

    @property
    def identity(self) -> StoreIdentity:
        """Which store it is, and whether it is acted on."""
        ...

    @property
    def revisions(self) -> Revisions:
        """Applied revisions of the inventory."""
        ...

    @property
    def replication(self) -> ReplicationBook:
        """The latest picture of each cluster's replication."""
        ...

    @property
    def health(self) -> HealthBook:
        """The latest look at the system's health."""
        ...

    @property
    def drills(self) -> DrillBook:
        """Reports of drills."""
        ...


@dataclass(slots=True, kw_only=True)
class Session:
    """One call of the command line. ``as_json``: print results as JSON."""

    home: str | None = None
    debug: bool = False
    as_json: bool = False
    assembled: list[System] = field(default_factory=list, repr=False)

    @property
    def root(self) -> Path:
        """The home directory, absolute; it need not exist."""
        return Path(self.home or os.environ.get("HA_TASKS_HOME") or ".ha").absolute()

    @property
    def inventory_path(self) -> Path:
        """Where ha-tasks.toml is: HA_TASKS_CONFIG, else in the home."""
        configured = os.environ.get("HA_TASKS_CONFIG")
        return Path(configured).absolute() if configured else self.root / "ha-tasks.toml"

    def inventory(self) -> Inventory:
        """The inventory; raises InventoryError."""
        from ha_tasks.inventory import load

        return load(self.inventory_path, os.environ)

    def system(self, *, sending: bool = False) -> System:
        """The parts, put together; ``sending``: with the broker, else nothing is sent."""
        from ha_tasks.bootstrap import assemble

        inventory = self.inventory()
        dispatch: Dispatch | None = None
        if sending:
            from ha_tasks.tasks.app import make_app
            from ha_tasks.tasks.dispatch import CeleryDispatch

            dispatch = CeleryDispatch(make_app(inventory.broker_url()))
        self.assembled.append(assemble(inventory, dispatch=dispatch))
        return self.assembled[-1]

    def close(self) -> None:
        """Writes down outside the store how far the audit chain came. Why a store that is away does not
        answer has been told by the command itself.
        """
        for system in self.assembled:
            with suppress(HaTasksError):
                system.witness.look(at_once=True)
            system.store.dispose()

    def result(self, content: Json, lines: Callable[[Json], Iterable[Line]]) -> None:
        """Prints a result: as JSON with its ``schema``, else as lines for a person."""
        if self.as_json:
            click.echo(json.dumps({"schema": 1, **content}, indent=2, ensure_ascii=False))
        else:
            show(lines(content))

    def tell(self, text: str) -> None:
        """A line about what is going on: on stderr when the result is JSON, so that it stays parseable."""
        click.echo(text, err=self.as_json)


pass_session = click.make_pass_decorator(Session, ensure=True)


def _home(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.ensure_object(Session).home = value


def _json(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.ensure_object(Session).as_json |= value


def with_home(command: Command) -> Command:
    """Adds ``--home``, which may stand before or behind the command's name."""
    return click.option("--home", metavar="DIR", expose_value=False, callback=_home, help="Home.")(command)


def with_json(command: Command) -> Command:
    """Adds ``--json``."""
    return click.option(
        "--json", is_flag=True, expose_value=False, callback=_json, help="Print the result as JSON."
    )(command)


def person() -> str:
    """``user@host``: who gives a command, for timelines. Behind sudo it is the user who called it."""
    try:
        name = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        # A numeric user without an entry in passwd, as in a container, has no name.
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"
