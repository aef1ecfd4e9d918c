"""The contract of ports/power.py, on a switch in memory and on real commands."""

from __future__ import annotations

import os
import time

import pytest

from ha_tasks.adapters.stonith import StonithCommands
from ha_tasks.errors import PassingFailure
from tests.fakes.power import FakePower


@pytest.fixture(params=["fake", "real"])
def power(request):
    if request.param == "fake":
        return FakePower({"good": True, "bad": False})
    return StonithCommands({"good": ["true"], "bad": ["sh", "-c", "echo no such outlet; exit 3"], "none": []})


def test_a_machine_is_off_when_its_command_says_so_any_number_of_times(power):
    assert power.off("good", timeout_s=5)
    assert power.off("good", timeout_s=5)


@pytest.mark.parametrize("host", ["none", "unknown"])
def test_without_a_command_nothing_is_proved(power, host):
    assert not power.off(host, timeout_s=5)


def test_a_command_that_fails_proves_nothing(power):
    with pytest.raises(PassingFailure, match="bad was not switched off"):
        power.off("bad", timeout_s=5)


def test_what_the_command_said_is_told():
    power = StonithCommands({"bad": ["sh", "-c", "echo no such outlet; exit 3"]})

    with pytest.raises(PassingFailure, match="exited 3: no such outlet"):
        power.off("bad", timeout_s=5)


@pytest.mark.parametrize("option", ["-P", "-p", "--password", "--api-token"])
def test_what_it_said_bears_none_of_its_passwords(option):
    argv = ["sh", "-c", 'echo "usage: off $0 $1 db1"; exit 1', option, "hush-hush"]

    with pytest.raises(PassingFailure) as caught:
        StonithCommands({"bad": argv}).off("bad", timeout_s=5)

    assert str(caught.value).endswith(f"usage: off {option} *** db1")


def test_a_command_that_does_not_end_is_killed_with_its_children(tmp_path):
    told = tmp_path / "pid"
    power = StonithCommands({"slow": ["sh", "-c", f"sleep 60 & echo $! > {told}; wait"]})
    began = time.monotonic()

    with pytest.raises(PassingFailure, match="took over"):
        power.off("slow", timeout_s=0.5)

    assert time.monotonic() - began < 20
    pid = int(told.read_text())
    ends = time.monotonic() + 10
    while _lives(pid) and time.monotonic() < ends:
        time.sleep(0.02)
    assert not _lives(pid)


def test_a_command_that_cannot_be_run_says_which():
    with pytest.raises(PassingFailure, match="no-such-program"):
        StonithCommands({"db1": ["/no-such-program"]}).off("db1", timeout_s=1)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - the kernel's file, read once
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
