"""A home with processes that stand for those of a stack: sleepers that bear its mark."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from ha_tasks.embedded import home as homes
from ha_tasks.embedded import secret_files, state
from ha_tasks.embedded.supervisor import Running
from ha_tasks.embedded.unprivileged import choose

SLEEP = "exec sleep 60"


class SleeperHome:
    """Sleepers by name; ``end`` ends what is left of them."""

    def __init__(self, root: Path) -> None:
        self.home = homes.home_at(root)
        homes.prepare(self.home)
        self.home.nodes.mkdir()
        self.home.stack.write_text("a-stack\n")
        secret_files.ensure(self.home.secrets)
        self._sleepers: dict[str, subprocess.Popen[bytes]] = {}

    def run(self, name: str, script: str = SLEEP) -> int:
        """Starts one and records it in state.json."""
        environ = {"PATH": os.environ["PATH"], "HA_TASKS_STACK": "a-stack"}
        self._sleepers[name] = started = subprocess.Popen(["/bin/sh", "-c", script], env=environ)
        # Between two programs of one process its environment cannot be read.
        deadline = time.monotonic() + 5
        while script == SLEEP and Path(f"/proc/{started.pid}/comm").read_text() != "sleep\n":
            assert time.monotonic() < deadline, "the sleeper does not fall asleep"
            time.sleep(0.005)
        running = [Running(name=n, kind="test", pid=p.pid) for n, p in self._sleepers.items()]
        state.write(self.home, state.State(endpoints={}, nodes={}, processes=running))
        return self._sleepers[name].pid

    def run_postgres(self, node: str) -> int:
        """A program of PostgreSQL's name that works in the node's data directory, with a pid file."""
        data_dir = self.home.data_dir(node)
        data_dir.mkdir(parents=True)
        program = self.home.root / "postgres"
        program.write_bytes(Path("/bin/sleep").read_bytes())
        program.chmod(0o755)
        running = subprocess.Popen([program, "60"], cwd=data_dir)
        self._sleepers[f"postgres of {node}"] = running
        (data_dir / "postmaster.pid").write_text(f"{running.pid}\n")
        return running.pid

    def end(self) -> None:
        for sleeper in self._sleepers.values():
            sleeper.kill()
            sleeper.wait(5)


def alive(pid: int) -> bool:
    """False for a zombie, too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], within_s: float) -> bool:
    """True as soon as it holds."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def postgres_prefix() -> tuple[str, ...]:
    """What goes before a PostgreSQL command here."""
    return choose(os.geteuid()).prefix
