"""Units are restarted once per key, whatever happens to the agent in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ha_tasks.errors import ActionFailed, PassingFailure
from tests.integration.agent_nodes import end_units, wait_until
from workers.agent import processes
from workers.agent.config import UnitConfig
from workers.agent.units import KEY_VARIABLE, STATE_VARIABLE, UNIT_VARIABLE, Units

WAITS = (sys.executable, "-c", "import time; time.sleep(600)")
DEAF = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('deaf', flush=True); time.sleep(600)",
)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "state").mkdir()
    yield tmp_path
    end_units(tmp_path)


def units(home: Path, *command: str, autostart: bool = False) -> Units:
    """As an agent makes them when it starts."""
    config = UnitConfig(
        name="web1", command=command or WAITS, cwd=home, log=home / "log", autostart=autostart
    )
    made = Units({"web1": config}, home / "state")
    made.autostart()
    return made


def restart(it: Units, key: str) -> int:
    return it.restart("web1", key, fence=1, timeout_s=10)["pid"]


def alive(pid: int) -> bool:
    return processes.start_ticks(pid) is not None


def starts(home: Path) -> list[str]:
    return [
        line.rpartition("key=")[2] for line in (home / "state/units/web1.starts").read_text().splitlines()
    ]


def test_a_restart_ends_the_old_process_and_is_remembered_by_its_key(home):
    it = units(home)
    first = restart(it, "one")
    second = restart(it, "two")

    assert (alive(first), alive(second)) == (False, True)
    assert restart(it, "one") == first
    assert starts(home) == ["one", "two"]


def test_a_unit_survives_its_agent_and_is_adopted_by_the_next(home):
    pid = restart(units(home), "one")
    later = units(home)

    assert later.status("web1") == {"running": True, "pid": pid, "starts": 1, "fence": 1}
    assert restart(later, "one") == pid


def test_a_unit_that_ended_by_itself_is_not_running_and_not_restarted(home):
    it = units(home, sys.executable, "-c", "pass")
    restart(it, "one")
    wait_until(lambda: not it.status("web1")["running"])

    assert it.status("web1") == {"running": False, "pid": None, "starts": 1, "fence": 1}


def test_autostart_starts_what_does_not_run(home):
    first = units(home, autostart=True)
    units(home, autostart=True)

    assert first.status("web1")["running"]
    assert starts(home) == ["autostart"]


def keys(home: Path) -> Path:
    return home / "state" / "units" / "web1.keys"


def test_a_key_that_was_begun_by_a_dead_agent_is_done_by_the_next(home):
    it = units(home)
    restart(it, "one")
    keys(home).write_text(json.dumps({"two": None}))
    pid = restart(units(home), "two")

    assert alive(pid)
    assert starts(home) == ["one", "two"]


def test_a_start_that_a_dead_agent_did_not_record_is_found_and_not_repeated(home):
    keys(home).parent.mkdir()
    keys(home).write_text(json.dumps({"one": None}))
    mine = {UNIT_VARIABLE: "web1", STATE_VARIABLE: str(home / "state"), KEY_VARIABLE: "one"}
    orphan = subprocess.Popen(WAITS, env={**os.environ, **mine}, start_new_session=True)
    wait_until(lambda: processes.with_environment(mine))
    it = units(home)
    pid = restart(it, "one")
    found = it.status("web1")
    orphan.kill()
    orphan.wait()

    assert pid == orphan.pid
    assert found == {"running": True, "pid": orphan.pid, "starts": 1, "fence": 1}


def test_a_process_that_does_not_hear_is_killed_with_its_children(home):
    it = units(home, *DEAF)
    first = restart(it, "one")
    wait_until(lambda: (home / "log").read_text() == "deaf\n")
    second = restart(it, "two")

    assert (alive(first), alive(second)) == (False, True)


def test_a_command_that_does_not_exist_is_a_failure_that_waiting_does_not_mend(home):
    with pytest.raises(ActionFailed, match="web1 cannot be started"):
        restart(units(home, "/nowhere/web"), "one")


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A service manager that writes down what it is asked."""
    script = tmp_path / "bin" / "systemctl"
    script.parent.mkdir()
    script.write_text(
        '#!/bin/sh\necho "$*" >> "$0.calls"\ncase "$*" in\n'
        '  *broken*) echo "Unit broken not loaded." >&2; exit 5;;\n  *slow*) exec sleep 5;;\nesac\n'
        '[ "$1" = show ] && echo 4242\nexit 0\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    return script.with_suffix(".calls")


def systemd_units(home: Path, name: str) -> Units:
    return Units({"web1": UnitConfig(name="web1", systemd=name)}, home / "state")


def test_a_systemd_unit_is_restarted_once_per_key(home, systemctl):
    it = systemd_units(home, "nginx.service")

    assert [it.restart("web1", key, fence=1, timeout_s=5) for key in ("a", "a")] == [{"pid": 4242}] * 2
    assert it.status("web1") == {"running": True, "pid": 4242, "starts": 1, "fence": 1}
    calls = systemctl.read_text().splitlines()
    assert calls.count("restart -- nginx.service") == 1


def test_what_systemd_refuses_is_said_and_what_takes_too_long_may_be_tried_again(home, systemctl):
    with pytest.raises(ActionFailed, match="not loaded"):
        systemd_units(home, "broken").restart("web1", "a", fence=1, timeout_s=5)
    with pytest.raises(PassingFailure, match="too long"):
        systemd_units(home, "slow").restart("web1", "b", fence=1, timeout_s=0.2)


def test_a_fence_kills_whoever_works_in_the_directory_and_sees_no_zombies(tmp_path):
    child = subprocess.Popen(DEAF, cwd=tmp_path, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    assert processes.holders(tmp_path) == {child.pid}
    processes.kill_holders(tmp_path, timeout_s=5)
    zombie = processes.start_ticks(child.pid)
    status = child.wait(5)
    child.stdout.close()

    assert (zombie, status) == (None, -signal.SIGKILL)
    assert not processes.holders(tmp_path)
