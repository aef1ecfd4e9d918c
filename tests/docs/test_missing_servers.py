"""A server that is missing is skipped by name on a laptop and fails in CI; apt starts no service."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import debian_servers
from tests.docs import pages

NEEDY = """
import pytest

@pytest.mark.needs("promtool")
def test_that_cannot_run_here():
    pass
"""


def run_needy(tmp_path: Path, **environment: str) -> str:
    """Runs a test that needs promtool where there is none; what pytest printed."""
    (tmp_path / "test_needy.py").write_text(NEEDY)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    without = {k: v for k, v in os.environ.items() if k not in {"CI", "HA_TASKS_UNTESTED"}}
    done = subprocess.run(
        [*command, "-c", str(pages.ROOT / "pyproject.toml"), str(tmp_path)],
        env=without | {"PATH": str(tmp_path), "PYTHONPATH": str(pages.ROOT)} | environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout


def test_a_missing_server_skips_its_tests_and_is_named_at_the_end(tmp_path: Path):
    kept = tmp_path / "untested"

    printed = run_needy(tmp_path, HA_TASKS_UNTESTED=str(kept))

    assert "needs promtool: apt-get install prometheus" in printed
    assert "not tested here: promtool (apt-get install prometheus)" in printed
    assert "1 skipped" in printed
    assert kept.read_text() == "promtool (apt-get install prometheus)\n"


def test_a_missing_server_fails_its_tests_in_ci(tmp_path: Path):
    printed = run_needy(tmp_path, CI="true")

    assert "needs promtool: apt-get install prometheus (CI tests everything)" in printed
    assert "1 error" in printed


def test_services_are_refused_only_while_apt_runs(tmp_path: Path):
    policy, saved = tmp_path / "policy-rc.d", tmp_path / "saved"

    with debian_servers.no_service_starts(policy, saved):
        refusal = subprocess.run([policy, "some-service", "start"], timeout=5, check=False)

    assert refusal.returncode == 101
    assert list(tmp_path.iterdir()) == []


def test_a_policy_that_was_there_comes_back(tmp_path: Path):
    policy, saved = tmp_path / "policy-rc.d", tmp_path / "saved"
    policy.write_text("#!/bin/sh\nexit 0\n")

    with pytest.raises(KeyboardInterrupt), debian_servers.no_service_starts(policy, saved):
        raise KeyboardInterrupt

    assert policy.read_text() == "#!/bin/sh\nexit 0\n"
    assert not saved.exists()


@pytest.mark.parametrize("before", [None, "#!/bin/sh\nexit 0\n"], ids=["none before", "one before"])
def test_what_a_killed_run_left_is_tidied_up(tmp_path: Path, before: str | None):
    policy, saved = tmp_path / "policy-rc.d", tmp_path / "saved"
    policy.write_text(debian_servers.REFUSE)
    if before:
        saved.write_text(before)

    with debian_servers.no_service_starts(policy, saved):
        pass

    assert (policy.read_text() if policy.exists() else None) == before
