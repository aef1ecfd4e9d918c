"""Inventories whose broker or store speaks TLS, as a user would write them, and who uses them."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import kombu.pools
import pytest

from ha_tasks.adapters.broker_queues import queues_at
from ha_tasks.errors import BrokerUnreachable
from ha_tasks.inventory import Inventory, load
from ha_tasks.tasks.app import make_app
from tests.unit.inventory_files import write_inventory

STORE = 'url = "sqlite:///ha.db"'
ANOTHER_CA = "is {}.tls.ca the authority that signed the server's certificate"
ANOTHER_NAME = "the certificate is for another name: write that name in {}.url"
BROKER = 'url = "redis://127.0.0.1:6379/0"'


def with_broker(directory: Path, url: str, *, password: str | None = None, tls: str = "") -> Inventory:
    """``tls`` is what stands in [broker.tls]; empty: there is no such table."""
    text = f'url = "{url}"'
    directory.mkdir(exist_ok=True)
    if password is not None:
        text += '\npassword = { file = "secrets/broker" }'
    path = write_inventory(directory, (BROKER, f"{text}\n{_table(tls)}"))
    secret = directory / "secrets" / "broker"
    secret.write_text(password or "none")
    secret.chmod(0o600)
    return load(path, {})


def with_store(directory: Path, url: str, *, tls: str = "") -> Inventory:
    """The same for [store.tls]."""
    directory.mkdir(exist_ok=True)
    return load(write_inventory(directory, (STORE, f'url = "{url}"\n{_table(tls)}')), {})


def _table(tls: str) -> str:
    return f"tls = {{ {tls} }}" if tls else ""


def look(inventory: Inventory) -> int:
    """Messages that wait in ``recovery``, as the sidecar reads them."""
    queues = queues_at(inventory.broker_url())
    try:
        return queues.backlogs(["recovery"])["recovery"].waiting
    finally:
        queues.close()


def refusal(inventory: Inventory) -> str:
    """What the reader says; its patience of a third of a second may be too short on a busy machine."""
    end = time.monotonic() + 5
    while True:
        with pytest.raises(BrokerUnreachable) as refused:
            look(inventory)
        if "no answer in time" not in str(refused.value) or time.monotonic() > end:
            return str(refused.value)


def send(inventory: Inventory) -> None:
    """A message, as workers send it. Kombu's pools tell connections apart by all but their TLS."""
    kombu.pools.reset()
    app = make_app(inventory.broker_url())
    try:
        app.send_task("ha.sweep", queue="recovery", retry=False)
    finally:
        app.close()


def await_port(port: int) -> None:
    """Returns once somebody listens there."""
    end = time.monotonic() + 10
    with socket.socket() as client:
        while client.connect_ex(("127.0.0.1", port)):
            assert time.monotonic() < end, "nobody listens"
            time.sleep(0.02)
