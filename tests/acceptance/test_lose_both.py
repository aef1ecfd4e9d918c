"""Primary and one standby are lost together: nothing is promoted, until one is back or a person decides."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from ha_tasks.adapters.clock import SystemClock
from ha_tasks.bootstrap import System, assemble, load_inventory
from ha_tasks.embedded.faults import EmbeddedFaults
from ha_tasks.embedded.home import Home
from ha_tasks.embedded.layout import agent_of
from ha_tasks.model.cluster import ClusterState
from ha_tasks.model.incident import IncidentKind, IncidentState
from ha_tasks.model.scenario import Deed
from tests.acceptance.stack import Stack, eventually

pytestmark = pytest.mark.full

REFUSED_WITHIN_S = 90
BACK_WITHIN_S = 180


class Scene:
    """A running demo, and what stands in its store."""

    def __init__(self, stack: Stack) -> None:
        environ = {"HA_TASKS_HOME": str(stack.home)}
        self.stack = stack
        self.system: System = assemble(load_inventory(stack.home, environ), environ=environ)
        self.home = Home(root=stack.home)
        self.faults = EmbeddedFaults(
            home=self.home, platform=self.system.platform, units=self.system.agents, clock=SystemClock()
        )

    @property
    def cluster(self):
        return self.system.store.clusters.get("db")

    def incident(self):
        """The latest one about a primary."""
        return next(i for i in self.system.store.incidents.recent(50) if i.kind is IncidentKind.PRIMARY_DOWN)

    def write(self) -> bool:
        """One row through the balancer, acknowledged."""
        try:
            with psycopg.connect(self.stack.state["endpoints"]["pg_write"], connect_timeout=2) as connection:
                connection.execute("SET statement_timeout = '2s'")
                connection.execute("CREATE TABLE IF NOT EXISTS kept (at timestamptz DEFAULT now())")
                connection.execute("INSERT INTO kept DEFAULT VALUES")
        except psycopg.Error:
            return False
        return True

    def rows(self) -> int:
        with psycopg.connect(self.stack.state["endpoints"]["pg_write"], connect_timeout=2) as connection:
            return connection.execute("SELECT count(*) FROM kept").fetchone()[0]

    def lose_both(self) -> tuple[str, str, str]:
        """(primary, lost standby, the one that is left)."""
        primary = self.cluster.primary
        lost, left = self.cluster.sets[0].members
        self.faults.inject(Deed.KILL_NODE, lost)
        self.faults.inject(Deed.KILL_NODE, primary)
        return primary, lost, left

    def let_back(self, node: str) -> None:
        (self.home.hold / agent_of(node)).unlink()

    def refused(self, primary: str) -> None:
        """The failover was refused and undone."""
        eventually(lambda: self._is_refused(primary), REFUSED_WITHIN_S, "the failover is refused")
        assert self.cluster.primary == primary
        assert self.cluster.unfinished == ()

    def _is_refused(self, primary: str) -> bool:
        about = [i for i in self.system.store.incidents.current() if i.kind is IncidentKind.PRIMARY_DOWN]
        return any(i.instance == primary and i.state is IncidentState.ESCALATED for i in about)

    def whole(self) -> bool:
        """Steady, with both other nodes in the set, and written to."""
        cluster = self.cluster
        members = len(cluster.sets) == 1 and len(cluster.sets[0].members) == 2
        return cluster.state is ClusterState.STEADY and members and self.write()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    stack = Stack(tmp_path_factory.mktemp("lose both") / "home")
    stack.start()
    try:
        made = Scene(stack)
        yield made
        made.faults.release()
        made.system.store.dispose()
    finally:
        stack.stop()


def test_nothing_is_promoted_and_it_goes_on_by_itself_when_one_is_back(scene: Scene) -> None:
    eventually(scene.write, 30, "a write is acknowledged")
    before = scene.rows()
    primary, lost, left = scene.lose_both()

    scene.refused(primary)
    status = scene.system.agents.status(left, timeout_s=5)
    assert (status.in_recovery, status.timeline) == (True, 1)

    scene.let_back(lost)
    eventually(scene.write, BACK_WITHIN_S, "a write is acknowledged again")
    # Writes are routed, and acknowledged by the new set, a moment before the new primary is recorded.
    eventually(lambda: scene.cluster.primary in (lost, left), 30, "the new primary is recorded")
    assert scene.rows() >= before + 1

    scene.faults.release()
    eventually(scene.whole, BACK_WITHIN_S, "redundancy is back")


def test_a_person_who_accepts_the_loss_has_the_standby_promoted_that_is_left(scene: Scene) -> None:
    eventually(scene.whole, BACK_WITHIN_S, "redundancy is back")
    assert scene.stack.command("ack", "db").returncode == 0  # the cool-down of the failover before
    primary, _, left = scene.lose_both()
    scene.refused(primary)

    refused = scene.stack.command("recover", "db", "--accept-data-loss", str(1 << 30))
    assert refused.returncode != 0
    assert f"{primary} may still take writes" in refused.stdout + refused.stderr

    done = scene.stack.command("recover", "db", "--accept-data-loss", str(1 << 30), "--confirm-off", primary)
    assert done.returncode == 0, done.stdout + done.stderr
    assert scene.cluster.primary == left
    assert scene.write()
    told = [e.text for e in scene.system.store.incidents.timeline(scene.incident().id)]
    assert any("bytes may be lost (accepted:" in text for text in told), told

    scene.faults.release()
    eventually(scene.whole, BACK_WITHIN_S, "redundancy is back")
