"""``ha-tasks adopt``: take a running PostgreSQL cluster into care."""

from __future__ import annotations

from collections.abc import Iterator

import click

from ha_tasks.cli.lines import HEAD, Line
from ha_tasks.cli.session import Session, pass_session, with_home, with_json
from ha_tasks.errors import UsageError
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import ServiceKind


@click.command("adopt")
@click.argument("service")
@click.option("--yes", is_flag=True, help="Do it; without this it only says what it would do.")
@with_home
@with_json
@pass_session
def command(session: Session, service: str, yes: bool) -> int:
    """Take the running PostgreSQL cluster SERVICE into care.

    It must have one primary, and every other node must stream from it. Its synchronous set is set, and
    from then on its primary, its set and its epoch stand in the store: a failover may follow.
    """
    system = session.system()
    known = system.platform.services.get(service)
    if known is None or known.kind is not ServiceKind.POSTGRES:
        raise UsageError(f"no PostgreSQL service {service!r} in the inventory")
    found = system.adopter.look(known)
    if yes:
        system.adopter.adopt(known, found)
    session.result({**found.to_json(), "done": yes}, lines)
    return 0


def lines(content: Json) -> Iterator[Line]:
    """What was found, and what was set or would be."""
    yield [(content["service"], HEAD), f": primary {content['primary']}"]
    verb = "set" if content["done"] else "would set"
    yield [f"{verb} synchronous_standby_names = '{content['synchronous_standby_names']}'"]
    yield [f"{'in care' if content['done'] else 'would be in care'} from epoch {content['epoch']} on"]
    if not content["done"]:
        yield ["nothing was changed; to do it: add --yes"]
