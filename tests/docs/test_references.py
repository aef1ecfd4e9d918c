"""Reference pages and schema say what the code does."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from ha_tasks.cli.reference import pages, schema_text, settings, with_table
from ha_tasks.cli.root import COMMANDS, INTERRUPTED
from ha_tasks.disaster_recovery.playbooks import read_files
from ha_tasks.errors import HaTasksError
from ha_tasks.inventory import SCHEMA_FILE, load, schema_hint, template
from ha_tasks.names import ActionName
from tests.unit.inventory_files import write_inventory

MENDING = "write it anew: python -m ha_tasks.cli.reference"
PAGES = pages()


def test_the_shipped_json_schema_is_current():
    assert SCHEMA_FILE.read_text() == schema_text(), MENDING


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_key_is_documented_with_type_default_and_purpose(page: Path):
    text, schema = page.read_text(), PAGES[page]

    assert text == with_table(text, schema), MENDING
    for key, _, _, description in settings(schema, schema):
        assert f"| `{key}` |" in text
        assert description, f"{key} has no description"


def test_every_action_is_documented():
    text = (PAGES_DIRECTORY / "playbooks.md").read_text()
    documented = re.findall(r"^\| `(\w+)` \| [a-z]", text, re.MULTILINE)

    actions = {str(action) for action in ActionName if action is not ActionName.VERIFY_SERVICE}
    assert actions <= set(documented)


def test_the_example_of_a_playbook_is_one(tmp_path: Path):
    text = (PAGES_DIRECTORY / "playbooks.md").read_text()
    example = re.search(r"```toml\n(.*?)```", text, re.DOTALL)
    assert example is not None
    path = tmp_path / "http-instance.toml"
    path.write_text(example.group(1))

    assert read_files([path]).faults == ()


def test_the_template_shows_every_key(tmp_path: Path):
    schema = PAGES[PAGES_DIRECTORY / "inventory.md"]
    text = template()
    words = {key.rsplit(".", 1)[-1].removesuffix("[]") for key, *_ in settings(schema, schema)} - {"NAME"}

    assert {word for word in words if not re.search(rf"\b{word}\b", text)} == set()
    assert load(write_inventory(tmp_path), {}).warnings == ()


def test_a_generated_file_leads_an_editor_to_the_schema():
    hint = template().splitlines()[0]

    assert hint == schema_hint() == f"#:schema {SCHEMA_FILE.as_uri()}"
    assert tomllib.loads(template())["schema"] == 1


PAGES_DIRECTORY = next(iter(PAGES)).parent


def test_every_command_and_every_exit_status_is_documented():
    text = (PAGES_DIRECTORY / "command-line.md").read_text()

    for name, (_, summary) in COMMANDS.items():
        assert f"| `{name}` | {summary} |" in text
    statuses = {kind.exit_status for kind in error_classes(HaTasksError)} | {0, INTERRUPTED}
    assert {int(found) for found in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)} == statuses


def error_classes(kind: type[HaTasksError]) -> set[type[HaTasksError]]:
    return {kind, *(each for child in kind.__subclasses__() for each in error_classes(child))}
