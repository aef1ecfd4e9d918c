"""The ledger admits commands in order of their authority; warrants are called off."""

from __future__ import annotations

import json
import threading
import time

import pytest

from ha_tasks.errors import AgentRefused, PassingFailure, StaleAuthority, UsageError
from ha_tasks.ports.host import Authority
from workers.agent.ledger import Ledger


def by(epoch: int, fence: int = 1) -> Authority:
    return Authority(epoch=epoch, fence=fence)


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(tmp_path / "ledger.json")


@pytest.mark.parametrize(
    ("seen", "asked", "admitted"),
    [
        (by(2, 5), by(2, 5), True),
        (by(2, 5), by(2, 6), True),
        (by(2, 5), by(3, 0), True),
        (by(2, 5), by(2, 4), False),
        (by(2, 5), by(1, 9), False),
    ],
)
def test_authority_is_compared_as_epoch_then_fence(ledger, seen, asked, admitted):
    ledger.close(ledger.open(seen, timeout_s=1))

    if admitted:
        ledger.close(ledger.open(asked, timeout_s=1))
    else:
        with pytest.raises(StaleAuthority):
            ledger.open(asked, timeout_s=1)
    assert ledger.highest == (asked if admitted else seen)


def test_what_was_seen_is_on_the_disk_before_the_command_begins(tmp_path):
    with Ledger(tmp_path / "ledger.json").warrant(by(7, 3), timeout_s=1):
        kept = json.loads((tmp_path / "ledger.json").read_text())

    assert kept == {"epoch": 7, "fence": 3}
    with pytest.raises(StaleAuthority):
        Ledger(tmp_path / "ledger.json").open(by(7, 2), timeout_s=1)


def test_a_ledger_that_cannot_be_read_is_no_fresh_ledger(tmp_path):
    (tmp_path / "ledger.json").write_text("{")

    with pytest.raises(UsageError):
        Ledger(tmp_path / "ledger.json")


@pytest.mark.parametrize(
    ("other", "alone", "called_off"),
    [(by(2), False, True), (by(1, 2), False, False), (by(1, 1), False, False), (by(1, 1), True, True)],
)
def test_a_higher_epoch_or_a_fence_calls_running_commands_off(ledger, other, alone, called_off):
    running = ledger.open(by(1, 1), timeout_s=1)
    ledger.open(other, timeout_s=1, alone=alone)

    if called_off:
        with pytest.raises(AgentRefused, match="called off"), ledger.acting(running):
            pytest.fail("it acted late")
    else:
        with ledger.acting(running):
            pass


def test_nothing_is_admitted_while_somebody_acts(ledger):
    """Either the act comes before the higher command, or not at all."""
    order: list[str] = []
    running = ledger.open(by(1), timeout_s=1)
    higher = threading.Thread(target=lambda: (ledger.open(by(2), timeout_s=1), order.append("admitted")))
    with ledger.acting(running):
        higher.start()
        higher.join(0.1)
        order.append("acted")
    higher.join(5)

    assert order == ["acted", "admitted"]


def test_a_renewed_command_goes_on_in_the_name_of_the_new_epoch(ledger):
    running = ledger.open(by(1), timeout_s=1)
    ledger.renew(running, by(2))
    ledger.open(by(2, 2), timeout_s=1)

    running.check()
    assert running.by == by(2)
    with pytest.raises(StaleAuthority):
        ledger.renew(running, by(1))


def test_waiting_ends_at_the_deadline_and_at_once_when_called_off(ledger):
    warrant = ledger.open(by(1), timeout_s=30)
    with pytest.raises(PassingFailure, match="the moon"):
        warrant.within(0.02).wait_until(lambda: False, "the moon")
    threading.Timer(0.05, warrant.call_off, ("for a test",)).start()
    began = time.monotonic()
    with pytest.raises(AgentRefused, match="for a test"):
        warrant.within(20).wait_until(lambda: False, "the moon", every_s=10)

    assert time.monotonic() - began < 5
