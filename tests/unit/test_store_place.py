"""Where a store stands: by its words, by the addresses of its names, by libpq's own settings in its URL."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from ha_tasks.inventory.schema import InventoryFile
from ha_tasks.inventory.store_place import looked_up, owner_of_store_place

NAMES = {
    "db-a.example": {"10.0.0.5"},
    "db-b.example": {"10.0.0.6", "fd00::6"},
    "alias.example": {"10.0.0.5"},
    "balancer": {"10.0.0.9"},
}
TEXT = """
schema = 1
[platform]
name = "shop"
[store]
url = "sqlite:///ha.db"
[broker]
url = "redis://127.0.0.1/0"
[services.db]
kind = "postgres"
[services.db.routing]
backend = "pg_write"
entry = "balancer:5000"
[[services.db.instances]]
name = "pg1"
address = "db-a.example:5432"
[[services.db.instances]]
name = "pg2"
address = "[fd00::6]:5432"
[services.web]
kind = "http"
[[services.web.instances]]
name = "web1"
address = "10.0.0.7:5432"
"""


def resolve(host: str) -> frozenset[str]:
    return frozenset(NAMES.get(host, ()))


def file_with(url: str) -> InventoryFile:
    content: dict[str, Any] = tomllib.loads(TEXT)
    content["store"]["url"] = url
    return InventoryFile.model_validate(content)


@pytest.mark.parametrize(
    ("place", "owner"),
    [
        ("u@db-a.example/ha", "services.db.instances.pg1"),
        ("u@DB-A.example./ha", "services.db.instances.pg1"),
        ("u@10.0.0.5/ha", "services.db.instances.pg1"),
        ("u@alias.example:5432/ha", "services.db.instances.pg1"),
        ("u@db-b.example/ha", "services.db.instances.pg2"),
        ("u@[fd00::6]/ha", "services.db.instances.pg2"),
        ("u@10.0.0.9:5000/ha", "services.db.routing"),
        ("u@store.example/ha?hostaddr=10.0.0.5", "services.db.instances.pg1"),
        ("u@store.example/ha?host=other:1,db-a.example:5432", "services.db.instances.pg1"),
        ("u@store.example:1/ha?hostaddr=10.0.0.9&port=5000", "services.db.routing"),
        ("u@db-a.example:5433/ha", None),
        ("u@store.example/ha", None),
        ("u@10.0.0.7/ha", None),
        ("u@10.0.0.6:5432/ha", None),
    ],
)
def test_the_database_under_a_store_is_found_by_every_name_of_it(place: str, owner: str | None):
    assert owner_of_store_place(file_with(f"postgresql+psycopg://{place}"), resolve) == owner


def test_a_sqlite_file_stands_on_no_database():
    assert owner_of_store_place(file_with("sqlite:///ha.db"), resolve) is None


def test_a_name_is_looked_up_and_one_that_nobody_knows_has_no_address():
    assert looked_up("localhost") & {"127.0.0.1", "::1"}
    assert looked_up("no-such-host.invalid") == frozenset()
