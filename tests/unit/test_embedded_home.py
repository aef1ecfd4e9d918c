"""The home is only ever used, and deleted, when it is ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from ha_tasks.embedded import home as homes
from ha_tasks.embedded import secret_files
from ha_tasks.errors import StartFailed, UsageError


def test_a_new_home_bears_our_marker_and_is_closed_to_others(tmp_path: Path):
    home = homes.home_at(tmp_path / "a path with spaces" / "ha")

    homes.prepare(home)
    homes.prepare(home)

    assert home.is_ours()
    assert home.root.stat().st_mode & 0o077 == 0


def test_a_directory_with_something_else_in_it_is_refused(tmp_path: Path):
    (tmp_path / "ha-tasks.toml").write_text("schema = 1\n")

    with pytest.raises(UsageError, match="give an empty or new directory with --home DIR"):
        homes.prepare(homes.home_at(tmp_path))

    assert [entry.name for entry in tmp_path.iterdir()] == ["ha-tasks.toml"]


def test_a_home_that_cannot_be_made_says_so(tmp_path: Path):
    (tmp_path / "file").touch()

    with pytest.raises(UsageError, match="cannot be used as home"):
        homes.prepare(homes.home_at(tmp_path / "file" / "ha"))


def test_purge_deletes_what_is_ours(tmp_path: Path):
    home = homes.home_at(tmp_path / "ha")
    homes.prepare(home)

    homes.purge(home)
    homes.purge(home)

    assert not home.root.exists()


def test_purge_leaves_what_is_not_ours(tmp_path: Path):
    (tmp_path / "precious").touch()

    with pytest.raises(UsageError, match="left as it is"):
        homes.purge(homes.home_at(tmp_path))

    assert (tmp_path / "precious").exists()


def test_a_full_disk_is_said_before_anything_starts(tmp_path: Path):
    with pytest.raises(StartFailed, match=r"only \d+ MB are free at .*make room"):
        homes.check_space(homes.home_at(tmp_path), needed_bytes=2**60)


def test_secrets_are_made_once_and_only_for_us(tmp_path: Path):
    secret_files.ensure(tmp_path, ["one", "two"])
    first = secret_files.read(tmp_path / "one")
    secret_files.ensure(tmp_path, ["one", "two"])

    assert secret_files.read(tmp_path / "one") == first != secret_files.read(tmp_path / "two")
    assert len(first) >= 32
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o600
