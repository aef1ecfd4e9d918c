"""What ``ha-tasks init`` writes: a complete, commented ha-tasks.toml."""

from __future__ import annotations

from pathlib import Path

SCHEMA_FILE = Path(__file__).with_name("ha-tasks.schema.json")
"""JSON schema of ha-tasks.toml, for editors; made from schema.py."""

_TEMPLATE_FILE = Path(__file__).with_name("template.toml")


def schema_hint() -> str:
    """The first line of a generated file: by it an editor finds the schema (taplo, Even Better TOML)."""
    return f"#:schema {SCHEMA_FILE.as_uri()}"


def template() -> str:
    """A complete ha-tasks.toml to begin with: fill in addresses, take out what is not there."""
    return f"{schema_hint()}\n{_TEMPLATE_FILE.read_text('utf-8')}"
