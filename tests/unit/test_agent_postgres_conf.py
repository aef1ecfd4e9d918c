"""The rendered configuration of a node."""

from __future__ import annotations

from pathlib import Path

import pytest

from ha_tasks.adapters.postgres_conf import (
    available_preload,
    quote,
    render_pg_hba,
    render_postgresql_conf,
)
from ha_tasks.model.replication_slots import slot_name

PLACE = {"node": "pg1", "port": 5431, "data_dir": Path("/h/it's data"), "conf_dir": Path("/h/conf")}


def test_what_the_agent_writes_comes_last_and_wins():
    assert render_postgresql_conf(**PLACE).splitlines()[-1] == "include_if_exists 'dynamic.conf'"


def test_durability_is_on_and_values_are_quoted():
    lines = render_postgresql_conf(**PLACE).splitlines()

    assert {"fsync = 'on'", "synchronous_commit = 'on'", "wal_log_hints = 'on'"} <= set(lines)
    assert "data_directory = '/h/it''s data'" in lines
    assert "cluster_name = 'pg1'" in lines


def test_extra_settings_override_the_standing_ones():
    text = render_postgresql_conf(**PLACE, extra={"max_connections": "20"}, preload=["a", "b"])

    assert [line for line in text.splitlines() if "max_connections" in line] == ["max_connections = '20'"]
    assert "shared_preload_libraries = 'a,b'" in text


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b"])
def test_a_value_cannot_break_out_of_its_line(value):
    with pytest.raises(ValueError, match="line break"):
        quote(value)


def test_everybody_needs_a_password_and_comes_from_the_networks_that_are_named():
    rules = [line.split() for line in render_pg_hba(networks=["10.0.0.0/8"]).splitlines()[1:]]

    assert {rule[-1] for rule in rules} == {"scram-sha-256"}
    assert {rule[3] for rule in rules} == {"10.0.0.0/8"}
    assert {(rule[1], rule[2]) for rule in rules} == {("replication", '"ha_repl"'), ("all", "all")}


@pytest.mark.parametrize(("node", "slot"), [("pg1", "ha_pg1"), ("DB-North.1", "ha_db_north_1")])
def test_a_slot_is_named_for_its_node(node, slot):
    assert slot_name(node) == slot


def test_only_libraries_that_are_installed_are_preloaded(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "pg_stat_statements.so").touch()

    assert available_preload(tmp_path / "bin", ["pg_stat_statements", "hypopg"]) == ("pg_stat_statements",)
