"""Webhooks in the inventory: what is read, what is refused, and that the secret stays where it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from ha_tasks.errors import InventoryError
from ha_tasks.inventory import load, read
from ha_tasks.monitoring.labels import OTHER, LabelRegistry
from tests.unit.inventory_files import write_inventory

SECRET = "planted-secret-of-the-hook"


def hook(name: str = "pager", url: str = "https://pager.example.org/hooks/ha", more: str = "") -> str:
    return f'[[webhooks]]\nname = "{name}"\nurl = "{url}"\nsecret = {{ file = "secrets/hook" }}\n{more}\n'


def inventory(directory: Path, *tables: str) -> Path:
    path = write_inventory(directory)
    (directory / "secrets" / "hook").write_text(f"{SECRET}\n")
    (directory / "secrets" / "hook").chmod(0o600)
    path.write_text(path.read_text() + "\n" + "\n".join(tables))
    return path


def test_a_webhook_is_read_with_its_defaults_and_its_secret_is_read_anew(tmp_path: Path):
    made = load(inventory(tmp_path, hook()), {})

    pager = made.platform.webhooks["pager"]
    assert (pager.url, pager.events) == ("https://pager.example.org/hooks/ha", ("incident.*", "run.*"))
    assert made.webhook_secret("pager") == SECRET.encode()
    (tmp_path / "secrets" / "hook").write_text("the-next-one")
    assert made.webhook_secret("pager") == b"the-next-one"
    assert SECRET not in repr(made)


@pytest.mark.parametrize(
    ("tables", "fault"),
    [
        ([hook(), hook()], "webhooks.pager.name: 2 webhooks bear this name; give each its own"),
        ([hook("exchange")], "webhooks.exchange.name: is the name of the events' exchange; give it another"),
        ([hook(url="ftp://h/x")], "webhooks.pager.url: is no http or https URL"),
        ([hook(url="https://u:planted-secret@h/x")], "webhooks.pager.url: bears a user or a password"),
        ([hook(more='events = ["incidnt.*"]')], "is no pattern of events; like incident.*, run.*"),
        ([hook(more="events = []")], "webhooks.pager.events: "),
    ],
)
def test_what_is_wrong_is_said_with_its_mending(tmp_path: Path, tables, fault):
    with pytest.raises(InventoryError) as caught:
        load(inventory(tmp_path, *tables), {})

    assert fault in str(caught.value)
    assert "planted-secret" not in str(caught.value)


def test_a_secret_that_is_not_there_is_a_fault(tmp_path: Path):
    path = inventory(tmp_path, hook())
    (tmp_path / "secrets" / "hook").unlink()

    assert any("webhooks.pager.secret" in str(fault) for fault in read(path, {}).faults)


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://10.0.0.9/x", True),
        ("http://127.0.0.1:9/x", False),
        ("https://10.0.0.9/x", False),
    ],
)
def test_a_webhook_in_clear_to_another_machine_is_warned_of(tmp_path: Path, url, warned):
    warnings = read(inventory(tmp_path, hook(url=url)), {}).warnings

    assert any("is not encrypted" in str(warning) for warning in warnings) is warned


def test_destinations_are_a_closed_list_of_labels(tmp_path: Path):
    labels = LabelRegistry(load(inventory(tmp_path, hook()), {}).platform)

    assert labels.values("destination") == ("exchange", "pager")
    assert labels.value("destination", "made-up") == OTHER
