"""The contract of ports/faults.py (Faults), on the fake and on the embedded stack's faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ha_tasks.adapters.clock import SystemClock
from ha_tasks.embedded.faults import EmbeddedFaults
from ha_tasks.errors import ServiceUnreachable
from ha_tasks.model.platform import Instance, Platform, Role, Service, ServiceKind
from ha_tasks.ports.faults import Faults
from tests.fakes.faults import FakeFaults
from tests.fakes.host import FakeHostAgents
from tests.integration.embedded_home import SleeperHome, alive, wait_until

WEB = Service(
    name="web",
    kind=ServiceKind.HTTP,
    instances=(
        Instance(
            name="web1", service="web", host="app", address="127.0.0.1:1", role=Role.ACTIVE, unit="web1"
        ),
    ),
)


@pytest.fixture
def sleepers(tmp_path: Path) -> Iterator[SleeperHome]:
    made = SleeperHome(tmp_path / "a home")
    yield made
    made.end()


def embedded(sleepers: SleeperHome) -> EmbeddedFaults:
    platform = Platform(name="test", services={"web": WEB}, hosts={}, balancers={})
    agents = FakeHostAgents(primary="pg1", units=("web1",))
    return EmbeddedFaults(home=sleepers.home, platform=platform, units=agents, clock=SystemClock())


@pytest.fixture(params=["fake", "embedded"])
def faults(request: pytest.FixtureRequest) -> Faults:
    if request.param == "fake":
        running = {"web1", "pg1"}
        return FakeFaults(clock=SystemClock(), running=running, counted={"starts.web1": 0})
    sleepers: SleeperHome = request.getfixturevalue("sleepers")
    sleepers.run("web1")
    sleepers.run("agent-pg1")
    sleepers.run_postgres("pg1")
    return embedded(sleepers)


VERBS: dict[str, Callable[[Faults, str], object]] = {
    "kill_postmaster": lambda faults, name: faults.kill_postmaster(name),
    "kill_node": lambda faults, name: faults.kill_node(name),
    "freeze_agent": lambda faults, name: faults.freeze_agent(name),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_fault_answers_the_moment_before_it(faults: Faults, verb: str):
    before = SystemClock().now()
    moment = VERBS[verb](faults, "pg1")

    assert before <= moment <= SystemClock().now()
    faults.release()


def test_a_killed_process_is_killed_at_once(faults: Faults):
    before = SystemClock().now()

    assert before <= faults.kill_process("web1") <= SystemClock().now()


def test_what_does_not_run_cannot_be_killed(faults: Faults):
    with pytest.raises(ServiceUnreachable):
        faults.kill_process("web9")


def test_releasing_is_harmless_when_nothing_lasts(faults: Faults):
    faults.release()
    faults.release()


def test_starts_of_units_are_counted(faults: Faults):
    assert isinstance(faults.evidence()["starts.web1"], int)


def test_descendants_die_with_a_process_and_strangers_do_not(sleepers: SleeperHome):
    pid_file = sleepers.home.root / "child"
    killed, stranger = sleepers.run("worker", f"sleep 60 & echo $! >'{pid_file}'; wait"), sleepers.run("beat")
    assert wait_until(lambda: pid_file.exists() and bool(pid_file.read_text().strip()), 2)

    embedded(sleepers).kill_process("worker")

    assert not alive(killed)
    assert not alive(int(pid_file.read_text()))
    assert alive(stranger)


def test_a_pid_that_is_no_longer_of_this_stack_is_left_alone(sleepers: SleeperHome):
    pid = sleepers.run("worker")
    sleepers.home.stack.write_text("another-stack\n")

    with pytest.raises(ServiceUnreachable):
        embedded(sleepers).kill_process("worker")

    assert alive(pid)


def test_a_killed_node_is_gone_whole_and_its_agent_is_held_until_released(sleepers: SleeperHome):
    agent, postgres = sleepers.run("agent-pg1"), sleepers.run_postgres("pg1")
    faults = embedded(sleepers)

    faults.kill_node("pg1")
    held = (sleepers.home.hold / "agent-pg1").exists()
    faults.release()

    assert not alive(agent)
    assert not alive(postgres)
    assert held
    assert list(sleepers.home.hold.iterdir()) == []


def test_a_frozen_agent_thaws_when_released_by_whoever_comes_next(sleepers: SleeperHome):
    agent = sleepers.run("agent-pg1")

    embedded(sleepers).freeze_agent("pg1")
    frozen = wait_until(lambda: state_of(agent) == "T", 2)
    embedded(sleepers).release()

    assert frozen
    assert wait_until(lambda: state_of(agent) == "S", 2)


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
