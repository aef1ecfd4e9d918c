"""``ha-tasks init``: a commented ha-tasks.toml to begin with."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import click

from ha_tasks.cli.session import Session, pass_session, with_home
from ha_tasks.errors import UsageError


@click.command("init")
@with_home
@pass_session
def command(session: Session) -> None:
    """Write a commented ha-tasks.toml, and a new key for the agents beside it; overwrites nothing."""
    from ha_tasks.inventory import template

    path = session.inventory_path
    if path.exists():
        raise UsageError(f"{path} is there already and is left as it is; edit it, or give another --home DIR")
    path.parent.mkdir(parents=True, exist_ok=True)
    key = path.parent / "secrets" / "agent-key"
    made = _write_key(key)
    _write_new(path, template(), 0o644)
    click.echo(f"wrote {path}")
    click.echo(f"wrote {key}: the agents on the hosts need the same file" if made else f"kept {key}")
    click.echo("next: put your names and addresses in, then: ha-tasks check, then: ha-tasks apply")


def _write_key(path: Path) -> bool:
    """True when it was made; a key that is there already is in use somewhere, so it stays."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if path.exists():
        return False
    _write_new(path, f"{secrets.token_urlsafe(32)}\n", 0o600)
    return True


def _write_new(path: Path, text: str, mode: int) -> None:
    """Writes a file that must not exist yet; a file that could not be written whole does not stay."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError:
        path.unlink(missing_ok=True)
        raise
