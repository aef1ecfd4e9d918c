"""``ha-tasks check``: every fault of ha-tasks.toml and of the playbooks; with --connect of the servers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from ha_tasks.cli.connections import Answer, Lines, answers
from ha_tasks.cli.lines import BAD, GOOD, HEAD, WARN, Line
from ha_tasks.cli.session import Session, pass_session, with_home, with_json
from ha_tasks.errors import ServiceUnreachable
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Instance, Service, ServiceKind

if TYPE_CHECKING:
    from ha_tasks.inventory import Inventory

BAD_FILE, UNREACHABLE = 2, 4


@click.command("check")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--connect", is_flag=True, help="Also ask every service, agent, balancer, broker and store.")
@with_home
@with_json
@pass_session
def command(session: Session, file: Path | None, connect: bool) -> int:
    """Say every fault of FILE (else of the home's ha-tasks.toml) and of its playbooks, with key and mending.

    Exit status 2 when there is a fault, 4 when a server does not answer as it should.
    """
    from ha_tasks.disaster_recovery.playbooks import SHIPPED, read_playbooks, strangers
    from ha_tasks.inventory import read

    path = (file or session.inventory_path).absolute()
    reading = read(path, os.environ)
    inventory = reading.inventory
    shelf = read_playbooks((SHIPPED, *(inventory.playbook_directories if inventory else ())))
    faults = [*reading.faults, *shelf.faults]
    found: tuple[Answer, ...] = ()
    if connect and inventory is not None and not faults:
        found = answers(inventory.platform, _lines(inventory))
    remarks = (*strangers(shelf.playbooks, inventory.platform), *_broken_actions()) if inventory else ()
    content: Json = {
        "file": str(path),
        "ok": not faults and all(answer.ok for answer in found),
        "faults": [fault.to_json() for fault in faults],
        "warnings": [*(str(warning) for warning in reading.warnings), *remarks],
        "connected": connect and not faults,
        "answers": [asdict(answer) for answer in found],
        "summary": _summary(inventory),
    }
    session.result(content, lines)
    if faults:
        return BAD_FILE
    return 0 if content["ok"] else UNREACHABLE


def _broken_actions() -> tuple[str, ...]:
    """What is wrong with the names of one's own actions; what they do is for `playbook lint`."""
    from ha_tasks.bootstrap.own_actions import offered

    return tuple(str(fault) for fault in offered()[1])


def _summary(inventory: Inventory | None) -> str:
    if inventory is None:
        return ""
    platform = inventory.platform
    instances = sum(len(service.instances) for service in platform.services.values())
    return (
        f"{platform.name}: {len(platform.services)} services, {instances} instances, "
        f"{len(platform.hosts)} hosts, {len(platform.balancers)} balancers"
    )


def _lines(inventory: Inventory) -> Lines:
    """The ways to the servers. What keeps the system from being put together is told by each of them."""
    from ha_tasks.bootstrap import assemble, queues_of
    from ha_tasks.bootstrap.health import outside_of
    from ha_tasks.cli.replication_checks import replication_answers
    from ha_tasks.cli.store_checks import store_answers

    system, queues = assemble(inventory), queues_of(inventory)

    def entry(service: Service) -> None:
        door = doorway(service)
        if service.kind is ServiceKind.POSTGRES:
            system.control.flush_lsn(service, door)
            return
        (outcome,) = system.health.look([replace(service, instances=(door,))])
        if not outcome.ok:
            raise ServiceUnreachable(f"{outcome.kind}: {outcome.detail}")

    return Lines(
        probe=system.health.look,
        node_status=system.agents.status,
        unit_status=system.agents.unit_status,
        file_status=system.agents.file_status,
        balancers=system.balancers,
        entry=entry,
        manager=system.led.word.report,
        broker=None if queues is None else lambda: queues.backlogs([]),
        store=system.store.ping,
        outside=outside_of(system).examine,
        store_faults=lambda: store_answers(system),
        cluster_faults=lambda: replication_answers(system),
    )


def doorway(service: Service) -> Instance:
    """The balancer's port as if it were an instance: what is asked there is what clients get."""
    if service.routing is None:
        raise ServiceUnreachable(f"{service.name} has no routing")
    entry = urlsplit(service.routing.entry)
    default = 443 if entry.scheme == "https" else 80
    address = f"{entry.hostname}:{entry.port or default}" if entry.hostname else service.routing.entry
    return replace(service.instances[0], name=service.routing.backend, address=address)


def lines(content: Json) -> Iterator[Line]:
    """Every fault, every warning, every answer that is not well; then the sum."""
    for fault in content["faults"]:
        where = f"{fault['file']}: {fault['key']}" if fault["key"] else fault["file"]
        yield [(where, BAD), f": {fault['problem']}; {fault['mending']}"]
    for warning in content["warnings"]:
        yield [("warning: ", WARN), warning]
    for answer in content["answers"]:
        if answer["ok"]:
            yield [("ok  ", GOOD), f"{answer['what']}: {answer['said']}"]
        else:
            yield [("BAD ", BAD), f"{answer['what']}: {answer['said']}; {answer['remedy']}"]
    yield from _sum(content)


def _sum(content: Json) -> Iterator[Line]:
    if content["faults"]:
        yield [(f"{len(content['faults'])} to mend in {content['file']}", HEAD)]
        return
    yield [("the file is in order: ", GOOD), content["summary"]]
    ill = sum(not answer["ok"] for answer in content["answers"])
    if ill:
        yield [(f"{ill} of {len(content['answers'])} did not answer as they should", BAD)]
    elif content["connected"]:
        yield [(f"all {len(content['answers'])} answered", GOOD)]
    else:
        yield ["ask the servers too: ha-tasks check --connect"]
