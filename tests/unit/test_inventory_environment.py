"""Overrides by HA_TASKS__... variables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ha_tasks.inventory import load, read
from ha_tasks.inventory.environment import override, variable_for
from tests.unit.inventory_files import write_inventory

CONTENT = {"store": {"url": "a"}, "services": {"my-web": {"instances": [{"name": "web1", "address": "x"}]}}}


@pytest.mark.parametrize(
    ("variable", "text", "place", "value"),
    [
        ("HA_TASKS__STORE__URL", "b", ("store", "url"), "b"),
        ("HA_TASKS__STORE__URL", "redis://:p@h/0", ("store", "url"), "redis://:p@h/0"),
        ("HA_TASKS__POLICIES__LEASE_S", "2.5", ("policies", "lease_s"), 2.5),
        ("HA_TASKS__POLICIES__MAX", "7", ("policies", "max"), 7),
        ("HA_TASKS__A__B", "true", ("a", "b"), True),
        ("HA_TASKS__A__B", '"7"', ("a", "b"), "7"),
        ("HA_TASKS__A__B", '["x"]', ("a", "b"), ["x"]),
        ("HA_TASKS__A__B", '{ env = "X" }', ("a", "b"), {"env": "X"}),
        ("HA_TASKS__A__B", "2026-01-01", ("a", "b"), "2026-01-01"),
        ("HA_TASKS__A__B", "", ("a", "b"), ""),
        ("HA_TASKS__SERVICES__MY_WEB__RTO_S", "9", ("services", "my-web", "rto_s"), 9),
        (
            "HA_TASKS__SERVICES__MY_WEB__INSTANCES__WEB1__ADDRESS",
            "h:1",
            ("services", "my-web", "instances", 0, "address"),
            "h:1",
        ),
    ],
)
def test_a_variable_sets_the_key_that_its_name_leads_to(
    variable: str, text: str, place: tuple[str | int, ...], value: object
):
    result = override(CONTENT, {variable: text})

    found: Any = result.content
    for part in place:
        found = found[part]
    assert found == value
    assert result.faults == ()
    assert list(result.sources.values()) == [variable]


def test_the_content_that_was_given_stays_as_it_is():
    override(CONTENT, {"HA_TASKS__STORE__URL": "b"})

    assert CONTENT["store"] == {"url": "a"}


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("HA_TASKS__STORE____URL", "is no path to a key; write it like HA_TASKS__STORE__URL"),
        ("HA_TASKS__", "is no path to a key"),
        ("HA_TASKS__STORE__URL__X", "leads into a value"),
        (
            "HA_TASKS__SERVICES__MY_WEB__INSTANCES__WEB9__ADDRESS",
            "names web9, which the file does not list; did",
        ),
    ],
)
def test_a_variable_that_leads_nowhere_is_a_fault(variable: str, said: str):
    (fault,) = override(CONTENT, {variable: "s3cret"}).faults

    assert str(fault).startswith(f"environment: {variable}: {said}")
    assert "s3cret" not in str(fault)


def test_names_with_single_underscores_are_left_alone():
    assert override(CONTENT, {"HA_TASKS_HOME": "/x", "HA_TASKS_CONFIG": "/y"}).content == CONTENT


def test_a_key_inside_an_overridden_table_belongs_to_the_variable():
    sources = {"broker.password": "HA_TASKS__BROKER__PASSWORD"}

    assert variable_for("broker.password.env", sources) == "HA_TASKS__BROKER__PASSWORD"
    assert variable_for("broker.url", sources) is None


def test_a_wrong_override_is_laid_at_the_door_of_its_variable(tmp_path: Path):
    path = write_inventory(tmp_path)

    reading = read(path, {"HA_TASKS__STORE__URL": "nonsense", "HA_TASKS__SERVICES__WEB__RTOS": "1"})

    assert [str(fault).split(";")[0] for fault in reading.faults] == [
        "environment variable HA_TASKS__STORE__URL: store.url: is no URL of a state store",
        "environment variable HA_TASKS__SERVICES__WEB__RTOS: services.web.rtos: unknown key",
    ]


def test_a_variable_that_leads_nowhere_keeps_the_inventory_from_loading(tmp_path: Path):
    reading = read(write_inventory(tmp_path), {"HA_TASKS__STORE____URL": "x"})

    assert reading.inventory is None
    assert len(reading.faults) == 1


def test_an_override_reaches_the_platform(tmp_path: Path):
    environ = {"HA_TASKS__SERVICES__WEB__RTO_S": "5", "HA_TASKS__METRICS__LISTEN": "127.0.0.1:1"}

    inventory = load(write_inventory(tmp_path), environ)

    assert inventory.platform.services["web"].rto_s == 5.0
    assert inventory.metrics_listen == "127.0.0.1:1"
