"""Reference pages and the JSON schema, made from the classes that read the files.

``python -m ha_tasks.cli.reference`` writes them anew; a test fails while one is out of date.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ha_tasks.disaster_recovery.playbook_schema import PlaybookFile
from ha_tasks.inventory import SCHEMA_FILE
from ha_tasks.inventory.loading import json_schema
from ha_tasks.model.fault import resolved

BEGIN = "<!-- made by python -m ha_tasks.cli.reference: begin -->"
END = "<!-- end -->"
PAGES = Path(__file__).parents[2] / "docs" / "reference"


def settings(schema: Mapping[str, Any], part: Mapping[str, Any], prefix: str = "") -> Iterator[list[str]]:
    """[key, type, default, description] of every key below ``part``, tables before their keys."""
    required = part.get("required", ())
    for key, value in part.get("properties", {}).items():
        inner = resolved(schema, value)
        name, below = _entered(schema, f"{prefix}{key}", inner)
        yield [name, _type(inner), _default(key, inner, required), inner.get("description", "")]
        yield from settings(schema, below, f"{name}.")


def _entered(schema: Mapping[str, Any], name: str, part: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The name as it is written in front of a key inside, and what is inside."""
    named = next(iter(part.get("patternProperties", {}).values()), None)
    if named is not None:
        return f"{name}.NAME", resolved(schema, named)
    items = resolved(schema, part.get("items", {}))
    return (f"{name}[]", items) if "properties" in items else (name, part)


def _type(part: Mapping[str, Any]) -> str:
    if len(part.get("enum", ())) > 8:
        return "a word of the table below"
    if "enum" in part:
        return ", ".join(f"`{word}`" for word in part["enum"])
    if "const" in part:
        return f"`{json.dumps(part['const'])}`"
    if part.get("type") == "array":
        return "tables" if "$ref" in part.get("items", {}) else "list of texts"
    names = {"string": "text", "number": "number", "integer": "whole number", "boolean": "true or false"}
    return names.get(str(part.get("type")), "table")


def _default(key: str, part: Mapping[str, Any], required: Mapping[str, Any]) -> str:
    if key in required:
        return "**required**"
    default = part.get("default")
    return "" if default is None or isinstance(default, dict) else f"`{json.dumps(default)}`"


def table(schema: Mapping[str, Any]) -> str:
    """The settings as a table in Markdown, between the two marks."""
    rows = [["key", "type", "default", "what it is"], ["---"] * 4]
    rows += [[f"`{key}`", *rest] for key, *rest in settings(schema, schema)]
    lines = ["| " + " | ".join(row).replace("  ", " ") + " |" for row in rows]
    return "\n".join([BEGIN, "", *lines, "", END])


def with_table(page: str, schema: Mapping[str, Any]) -> str:
    """The page with its table made anew; ValueError when it has no marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the page has no marks between which its table goes")
    return f"{before}{table(schema)}{after}"


def schema_text() -> str:
    """What ha-tasks.schema.json must hold."""
    return json.dumps(json_schema(), indent=2) + "\n"


def pages() -> dict[Path, Mapping[str, Any]]:
    """Each page and the schema that its table is made from."""
    return {
        PAGES / "inventory.md": json_schema(),
        PAGES / "playbooks.md": PlaybookFile.model_json_schema(by_alias=True),
    }


def write() -> None:
    """Writes the schema and every page's table. Idempotent; needs a checkout."""
    SCHEMA_FILE.write_text(schema_text(), "utf-8")
    for page, schema in pages().items():
        page.write_text(with_table(page.read_text("utf-8"), schema), "utf-8")


if __name__ == "__main__":
    write()
