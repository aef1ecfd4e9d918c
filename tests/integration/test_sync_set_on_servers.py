"""The joint rule on real servers: a frozen standby leaves the set, and comes back into it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

import pytest

from ha_tasks.adapters.clock import SystemClock
from ha_tasks.adapters.postgres import SqlPostgresControl
from ha_tasks.failover.load_balancer import LoadBalancer
from ha_tasks.failover.traffic_router import TrafficRouter
from ha_tasks.model.cluster import Cluster, ClusterState, promotion_is_safe, sync_set_of
from ha_tasks.model.platform import Instance, PostgresSettings, Role, Service, ServiceKind
from ha_tasks.model.playbook import VerifySettings
from ha_tasks.ports.action import StepContext
from ha_tasks.workflows.actions.sync_set import NarrowSyncSet, WidenSyncSet
from ha_tasks.workflows.cluster_moves import PostgresTools
from tests.fakes.repositories import FakeStore
from tests.integration.agent_nodes import PASSWORD, Node, Nodes, nodes, thaw, wait_until

NAMES = ("pg1", "pg2", "pg3")
CLOCK = SystemClock()


@pytest.fixture
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with nodes(tmp_path_factory.mktemp("nodes"), *NAMES) as three:
        for name in NAMES[1:]:
            three.agents.rejoin(name, "pg1", three.by, f"make-{name}", timeout_s=60)
        yield three


@contextlib.contextmanager
def frozen(node: Node) -> Iterator[None]:
    """Its host is gone, as far as others can tell: every process of it, and its agent."""
    pids = [node.agent.pid, *node.tree()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            thaw(pid)


def service_of(made: Nodes) -> Service:
    return Service(
        name="db",
        kind=ServiceKind.POSTGRES,
        postgres=PostgresSettings(database="postgres", user="postgres"),
        instances=tuple(
            Instance(name=n, service="db", host=n, address=f"127.0.0.1:{made[n].port}", role=Role.NODE)
            for n in NAMES
        ),
    )


def context(service: Service, fence: int) -> StepContext:
    ends = CLOCK.monotonic() + 60
    return StepContext(
        run=1,
        step=1,
        key="run-1-step-1",
        service=service,
        incident=None,
        args={"instance": "pg2"},
        captured={},
        outputs={},
        fence=fence,
        verify=VerifySettings(),
        remaining_s=lambda: ends - CLOCK.monotonic(),
        lost=lambda: False,
    )


@pytest.mark.full
def test_a_frozen_standby_leaves_the_set_and_comes_back_into_it(made: Nodes) -> None:
    service, store, both = service_of(made), FakeStore(), sync_set_of(["pg2", "pg3"])
    store.clusters.journal = None  # nobody has claimed a run here
    balancer = LoadBalancer({}, store.wanted, CLOCK)
    control = SqlPostgresControl(password=lambda _: PASSWORD, timeout_s=5.0)
    tools = PostgresTools(
        clusters=store.clusters,
        agents=made.agents,
        control=control,
        balancer=balancer,
        router=TrafficRouter(balancer),
        wanted=store.wanted,
        clock=CLOCK,
    )
    made.agents.set_sync("pg1", both.setting(), made.by)
    steady = ClusterState.STEADY
    recorded = Cluster(name="db", epoch=made.by.epoch, primary="pg1", state=steady, sets=(both,))
    store.clusters.register(recorded, CLOCK.now())
    primary = service.instance("pg1")
    before = made["pg1"].value("SELECT pid FROM pg_stat_replication WHERE application_name = 'pg3'")

    with frozen(made["pg2"]):
        gone = lambda: "pg2" not in control.receiving(service, primary)  # noqa: E731
        wait_until(gone, within_s=30, what="the primary gives pg2 up")
        NarrowSyncSet(tools).do(context(service, made.by.fence + 1))

        assert store.clusters.get("db").sets == (sync_set_of(["pg3"]),)
        assert promotion_is_safe(store.clusters.get("db").sets, {"pg3"})
        assert made["pg1"].value("SHOW synchronous_standby_names") == "ANY 1 (pg3)"
        assert made["pg1"].value("SELECT pid FROM pg_stat_replication") != before
        made["pg1"].rows("CREATE TABLE acknowledged (x int)")

    wait_until(lambda: "pg2" in control.streaming(service, primary), within_s=30, what="pg2 streams")
    WidenSyncSet(tools).do(context(service, made.by.fence + 2))

    assert store.clusters.get("db").sets == (both,)
    assert made["pg1"].value("SHOW synchronous_standby_names") == both.setting()
