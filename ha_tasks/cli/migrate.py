"""``ha-tasks migrate``: the state store's tables, brought to this version; or the store, to another place."""

from __future__ import annotations

import click

from ha_tasks.cli.session import Session, pass_session, with_home
from ha_tasks.errors import Refused, UsageError


@click.command("migrate")
@click.option("--to", "target", metavar="URL", help="Copy the whole store to this empty database instead.")
@with_home
@pass_session
def command(session: Session, target: str | None) -> None:
    """Bring the tables of the state store to this version. Idempotent; any number may do it at once.

    With --to every row is copied to another, empty database, and nothing acts by the old store any more:
    name the new one under [store] then. A password may stand in the environment: PGPASSWORD, ~/.pgpass.
    """
    from ha_tasks.cli.store_checks import node_of_the_same_server

    system = session.system()
    if target is not None:
        _move(system.inventory.store_url(), target)
        return
    owner = "" if system.inventory.store_on_protected_cluster else node_of_the_same_server(system)
    if owner:
        raise Refused(
            f"the store stands on a database that it recovers: its server is the protected {owner}; "
            "give it a server of its own, or insist: [store] on_protected_cluster = true"
        )
    system.store.migrate()
    click.echo("the state store is at the newest revision")


def _move(source: str, target: str) -> None:
    from ha_tasks.inventory.forms import store_url
    from ha_tasks.store.transfer import transfer

    try:
        url = store_url(target)
    except ValueError as error:
        raise UsageError(f"--to: {'; '.join(map(str, error.args))}") from None
    counts = transfer(source, url)
    rows = sum(counts.values())
    click.echo(f"{rows} rows of {sum(map(bool, counts.values()))} tables were copied and counted")
    click.echo("now name the new store under [store] in ha-tasks.toml, and start the processes again")
