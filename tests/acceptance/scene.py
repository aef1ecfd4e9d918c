"""A running demo with its store, its faults and a client: for trials that look behind the command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from ha_tasks.adapters.clock import SystemClock
from ha_tasks.bootstrap import System, assemble, load_inventory
from ha_tasks.embedded.faults import EmbeddedFaults
from ha_tasks.embedded.home import Home
from ha_tasks.embedded.layout import agent_of
from ha_tasks.model.cluster import ClusterState
from ha_tasks.model.incident import IncidentKind, IncidentState
from ha_tasks.model.scenario import Deed
from tests.acceptance.stack import Stack, eventually

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
            home=self.home,
            platform=self.system.platform,
            units=self.system.agents,
            rollback=self.system.rollback,
            clock=SystemClock(),
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

    def reads(self) -> bool:
        """Clients get an answer through the balancer."""
        try:
            self.rows()
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

    def is_over(self) -> bool:
        """No failure of a primary goes on: what is left of one is at most a person's to acknowledge."""
        about = [i for i in self.system.store.incidents.current() if i.kind is IncidentKind.PRIMARY_DOWN]
        return not any(i.holds_key for i in about)

    def whole(self) -> bool:
        """Steady, with both other nodes in the set, and written to."""
        cluster = self.cluster
        members = len(cluster.sets) == 1 and len(cluster.sets[0].members) == 2
        return cluster.state is ClusterState.STEADY and members and self.write()


@contextmanager
def scene_in(home: Path) -> Iterator[Scene]:
    """Started, and gone afterwards with whatever was broken in it."""
    stack = Stack(home)
    stack.start()
    try:
        made = Scene(stack)
        yield made
        made.faults.release()
        made.system.store.dispose()
    finally:
        stack.stop()
