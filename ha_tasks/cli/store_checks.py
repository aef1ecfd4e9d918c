"""``ha-tasks check --connect``: what a state store that answers may be wrong about all the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from ha_tasks.cli.connections import Answer
from ha_tasks.errors import HaTasksError
from ha_tasks.model.platform import ServiceKind

if TYPE_CHECKING:
    from ha_tasks.bootstrap import System

LATELY = timedelta(minutes=1)


def store_answers(system: System) -> Iterator[Answer]:
    """One row for each thing that is wrong; a store that does not answer says nothing here."""
    with suppress(HaTasksError):
        yield from _trust(system)
        yield from _place(system)
        yield from _machines(system)


def _trust(system: System) -> Iterator[Answer]:
    held = system.store.identity.read().held
    if held:
        yield Answer(what="store", ok=False, said=held, remedy="compare the numbers: ha-tasks store show")


def _place(system: System) -> Iterator[Answer]:
    owner = node_of_the_same_server(system)
    if owner and not system.inventory.store_on_protected_cluster:
        yield Answer(
            what="store",
            ok=False,
            said=f"its server is the protected {owner}: they have one system identifier",
            remedy="give it a server of its own: it must answer while that database is down",
        )


def node_of_the_same_server(system: System) -> str:
    """Dotted key of a protected node whose server, or whose cluster, is the store's; '' when there is none.

    By the system identifier, which a server and all its standbys share, whatever address leads there.
    """
    own = system.store.system_identifier()
    if own is None:
        return ""
    for service in system.platform.services.values():
        if service.kind is not ServiceKind.POSTGRES:
            continue
        for instance in service.instances:
            with suppress(HaTasksError):  # a node that does not answer is told in a row of its own
                if system.control.system_identifier(service, instance) == own:
                    return f"services.{service.name}.instances.{instance.name}"
    return ""


def _machines(system: System) -> Iterator[Answer]:
    if system.store.system_identifier() is not None:
        return
    workers = system.store.ledger.workers(system.clock.now() - LATELY)
    machines = sorted({worker.name.partition("/")[0] for worker in workers})
    if len(machines) > 1:
        yield Answer(
            what="store",
            ok=False,
            said=f"sqlite is for one host, and processes on {', '.join(machines)} use it",
            remedy="move it: ha-tasks migrate --to postgresql+psycopg://user@host/database",
        )
