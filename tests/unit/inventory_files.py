"""Writes inventories for tests: the template, with changes, and its secrets."""

from __future__ import annotations

from pathlib import Path

from ha_tasks.inventory import template

SECRETS = {"agent-key": "key-of-the-agents\n", "db-password": "hush-hush\n"}


def write_inventory(directory: Path, *changes: tuple[str, str]) -> Path:
    """The template in ``directory``, each (old, new) replaced once; answers its path."""
    text = template()
    for old, new in changes:
        assert old in text, f"the template has no {old!r}"
        text = text.replace(old, new, 1)
    secrets = directory / "secrets"
    secrets.mkdir(parents=True, exist_ok=True)
    for name, value in SECRETS.items():
        (secrets / name).write_text(value)
        (secrets / name).chmod(0o600)
    path = directory / "ha-tasks.toml"
    path.write_text(text)
    return path
