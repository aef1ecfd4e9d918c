"""The embedded stack as a user has it: started, asked and stopped by the command line alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

START_WITHIN_S = 120
ANSWER_WITHIN_S = 180


class Stack:
    """A demo on a home of its own."""

    def __init__(self, home: Path, overrides: Mapping[str, str] = MappingProxyType({})) -> None:
        """``overrides``: environment variables of every command, as ``HA_TASKS__STORE__URL``."""
        self.home = home
        self._overrides = overrides

    def command(self, *words: str, within_s: float = ANSWER_WITHIN_S) -> subprocess.CompletedProcess[str]:
        """Runs ``ha-tasks`` with these words on this home."""
        return self.with_environment(*words, within_s=within_s)

    def with_environment(
        self, *words: str, within_s: float = ANSWER_WITHIN_S, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """The same with more variables."""
        environ = {k: v for k, v in os.environ.items() if not k.startswith("HA_TASKS")} | more
        return subprocess.run(
            [sys.executable, "-m", "ha_tasks.cli", *words, "--home", str(self.home)],
            capture_output=True,
            text=True,
            timeout=within_s,
            env={**environ, **self._overrides},
            check=False,
        )

    def start(self) -> None:
        done = self.command("demo", "--detach", within_s=START_WITHIN_S)
        assert done.returncode == 0, done.stdout + done.stderr

    def stop(self) -> None:
        done = self.command("demo", "--stop", within_s=60)
        assert done.returncode == 0, done.stdout + done.stderr

    @property
    def state(self) -> dict[str, Any]:
        """The record of the running stack, as anybody may read it who may read the home."""
        return json.loads((self.home / "state.json").read_text())

    def pid(self, name: str) -> int | None:
        """Of a process of the record; None while it does not run."""
        return next((p["pid"] for p in self.state["processes"] if p["name"] == name), None)

    def drill(self, scenario: str) -> dict[str, Any]:
        """A drill's report; its exit status must agree with its verdict."""
        done = self.command("drill", scenario, "--json")
        assert done.stdout, done.stderr
        report = json.loads(done.stdout)
        assert done.returncode == (0 if report["verdict"] == "PASS" else 1), done.stderr
        return report

    def result(self, *words: str) -> dict[str, Any]:
        """What a command prints with ``--json``."""
        done = self.command(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def eventually(condition: Callable[[], bool], within_s: float, what: str) -> None:
    """The promise of a deadline: fails with what it waited for."""
    ends = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < ends, f"{what}: not within {within_s:.0f} s"
        time.sleep(0.1)
