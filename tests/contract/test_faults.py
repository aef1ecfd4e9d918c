"""The contract of ports/faults.py (Faults), on the fake and on the embedded stack's faults."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from ha_tasks.adapters.clock import SystemClock
from ha_tasks.embedded.faults import EmbeddedFaults
from ha_tasks.embedded.node_files import SITE_CONF
from ha_tasks.errors import ServiceUnreachable
from ha_tasks.model.platform import Instance, Platform, Role, Service, ServiceKind
from ha_tasks.model.scenario import Deed
from ha_tasks.ports.faults import Faults
from ha_tasks.recovery.rollback_controller import RollbackController
from tests.fakes.faults import FakeFaults
from tests.fakes.host import FakeFileAgents, FakeHostAgents
from tests.fakes.versions import FakeVersions
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
    rollback = RollbackController(
        versions=FakeVersions(), agents=FakeFileAgents({}), clock=SystemClock(), actor="h/test"
    )
    return EmbeddedFaults(
        home=sleepers.home, platform=platform, units=agents, rollback=rollback, clock=SystemClock()
    )


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


@pytest.mark.parametrize(
    "deed",
    [
        Deed.KILL_POSTMASTER,
        Deed.KILL_NODE,
        Deed.KILL_AGENT,
        Deed.FREEZE_AGENT,
        Deed.FREEZE_POSTMASTER,
        Deed.FREEZE_DATABASE,
        Deed.FREEZE_NODE,
    ],
)
def test_a_fault_of_a_node_answers_the_moment_before_it(faults: Faults, deed: Deed):
    before = SystemClock().now()
    moment = faults.inject(deed, "pg1")

    assert before <= moment <= SystemClock().now()
    assert faults.missing(deed) is None
    assert faults.release() == ()


@pytest.mark.parametrize("deed", [Deed.KILL, Deed.HOLD, Deed.BREAK_CONFIG])
def test_a_fault_of_a_process_answers_the_moment_before_it(faults: Faults, deed: Deed):
    before = SystemClock().now()

    assert before <= faults.inject(deed, "web1") <= SystemClock().now()
    faults.release()


def test_a_boundary_that_nobody_reached_is_told_once(faults: Faults):
    faults.inject(Deed.ARM, "do.promote_candidate.done")

    assert faults.release() == ("nobody came to the boundary do.promote_candidate.done",)
    assert faults.release() == ()


def test_what_does_not_run_cannot_be_killed(faults: Faults):
    with pytest.raises(ServiceUnreachable):
        faults.inject(Deed.KILL, "web9")


def test_releasing_is_harmless_when_nothing_lasts(faults: Faults):
    faults.release()
    faults.release()


def test_a_broken_configuration_lasts_until_it_is_released(sleepers: SleeperHome):
    faults, conf = embedded(sleepers), sleepers.home.site_conf
    conf.write_text(SITE_CONF)
    faults.inject(Deed.BREAK_CONFIG, "web1")
    broken = conf.read_text()
    faults.release()

    assert broken != conf.read_text() == SITE_CONF
    conf.write_text("somebody's")
    faults.release()
    assert conf.read_text() == "somebody's"


def test_starts_of_units_are_counted(faults: Faults):
    assert isinstance(faults.evidence()["starts.web1"], int)


def test_descendants_die_with_a_process_and_strangers_do_not(sleepers: SleeperHome):
    pid_file = sleepers.home.root / "child"
    killed, stranger = sleepers.run("worker", f"sleep 60 & echo $! >'{pid_file}'; wait"), sleepers.run("beat")
    assert wait_until(lambda: pid_file.exists() and bool(pid_file.read_text().strip()), 2)

    embedded(sleepers).inject(Deed.KILL, "worker")

    assert not alive(killed)
    assert not alive(int(pid_file.read_text()))
    assert alive(stranger)


def test_a_pid_that_is_no_longer_of_this_stack_is_left_alone(sleepers: SleeperHome):
    pid = sleepers.run("worker")
    sleepers.home.stack.write_text("another-stack\n")

    with pytest.raises(ServiceUnreachable):
        embedded(sleepers).inject(Deed.KILL, "worker")

    assert alive(pid)


def test_a_killed_node_is_gone_whole_and_its_agent_is_held_until_released(sleepers: SleeperHome):
    agent, postgres = sleepers.run("agent-pg1"), sleepers.run_postgres("pg1")
    faults = embedded(sleepers)

    faults.inject(Deed.KILL_NODE, "pg1")
    held = (sleepers.home.hold / "agent-pg1").exists()
    faults.release()

    assert not alive(agent)
    assert not alive(postgres)
    assert held
    assert list(sleepers.home.hold.iterdir()) == []


def test_a_frozen_agent_thaws_when_released_by_whoever_comes_next(sleepers: SleeperHome):
    agent = sleepers.run("agent-pg1")

    embedded(sleepers).inject(Deed.FREEZE_AGENT, "pg1")
    frozen = wait_until(lambda: state_of(agent) == "T", 2)
    embedded(sleepers).release()

    assert frozen
    assert wait_until(lambda: state_of(agent) == "S", 2)


def test_a_frozen_node_is_frozen_whole(sleepers: SleeperHome):
    agent, postgres = sleepers.run("agent-pg1"), sleepers.run_postgres("pg1")
    faults = embedded(sleepers)

    faults.inject(Deed.FREEZE_NODE, "pg1")
    frozen = wait_until(lambda: {state_of(agent), state_of(postgres)} == {"T"}, 2)
    faults.release()

    assert frozen
    assert wait_until(lambda: {state_of(agent), state_of(postgres)} == {"S"}, 2)


def test_a_frozen_database_leaves_its_agent_awake(sleepers: SleeperHome):
    agent, postgres = sleepers.run("agent-pg1"), sleepers.run_postgres("pg1")
    faults = embedded(sleepers)

    faults.inject(Deed.FREEZE_DATABASE, "pg1")
    frozen = wait_until(lambda: state_of(postgres) == "T", 2)
    awake = state_of(agent)
    faults.release()

    assert frozen
    assert awake == "S"


def test_a_locked_store_takes_no_write_until_it_is_released(sleepers: SleeperHome):
    with sqlite3.connect(sleepers.home.database) as store:
        store.execute("CREATE TABLE t (n)")
    store.close()
    faults = embedded(sleepers)

    faults.inject(Deed.LOCK_STORE, "")
    while_locked = written(sleepers.home.database)
    faults.release()

    assert not while_locked
    assert written(sleepers.home.database)


def test_a_store_that_is_elsewhere_cannot_be_locked_and_that_is_said(sleepers: SleeperHome):
    said = embedded(sleepers).missing(Deed.LOCK_STORE)

    assert said is not None
    assert "HA_TASKS__STORE__URL" in said


def test_a_boundary_that_somebody_else_armed_is_left_armed(sleepers: SleeperHome):
    armed = sleepers.home.crash_points / "do.take_out.done"
    armed.touch()

    assert embedded(sleepers).release() == ()
    assert armed.exists()


def written(database: Path) -> bool:
    store = sqlite3.connect(database, timeout=0.1)
    try:
        store.execute("INSERT INTO t VALUES (1)")
    except sqlite3.OperationalError:
        return False
    finally:
        store.close()
    return True


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
