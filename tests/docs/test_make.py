"""The verbs of make: they list themselves, and an interpreter that will not do is said so."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.docs import pages


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = {"PATH": "/usr/bin:/bin"}
    return subprocess.run(
        command,
        env=path | environment,
        cwd=pages.ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_make_alone_lists_its_verbs():
    printed = run("make").stdout

    for verb in ("help", "demo", "test", "test-full", "bench", "lint", "format", "types", "lock", "clean"):
        assert f"make {verb} " in printed


@pytest.fixture
def old_python(tmp_path: Path) -> Path:
    """An interpreter that is too old, as far as the scripts can see."""
    python = tmp_path / "python3.9"
    python.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.9.2 && exit\nexit 1\n')
    python.chmod(0o755)
    return python


def test_a_python_that_is_too_old_gets_one_clear_message(old_python: Path):
    done = run("make", "demo", PYTHON=str(old_python))

    assert done.returncode == 2
    assert f"Python 3.11 or newer is needed, and {old_python} is Python 3.9.2." in done.stderr
    assert "make PYTHON=/path/to/python3.11" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_python_that_is_missing_is_asked_for():
    done = run("make", "demo", PYTHON="no-such-python")

    assert done.returncode == 2
    assert "there is no no-such-python. Install Python 3.11 or newer" in done.stderr


@pytest.mark.parametrize("script", ["venv", "test", "lock", "pristine"])
def test_a_shell_script_can_be_parsed_and_run(script: str):
    path = pages.ROOT / "scripts" / script

    assert run("bash", "-n", path).stderr == ""
    assert path.stat().st_mode & 0o111
