"""``ha-tasks migrate``: the tables of the state store, brought to this version."""

from __future__ import annotations

import click

from ha_tasks.cli.session import Session, pass_session, with_home


@click.command("migrate")
@with_home
@pass_session
def command(session: Session) -> None:
    """Bring the tables of the state store to this version. Idempotent; any number may do it at once."""
    store = session.system().store
    store.migrate()
    click.echo("the state store is at the newest revision")
