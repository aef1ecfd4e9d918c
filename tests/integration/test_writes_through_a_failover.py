"""Writes through a real HAProxy while the primary dies, its standby is promoted and the router moves them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import psycopg
import pytest

from ha_tasks.adapters.clock import SYSTEM_CLOCK
from ha_tasks.adapters.haproxy import HaproxyControl
from ha_tasks.adapters.loads import EntryLoads
from ha_tasks.adapters.postgres import SqlPostgresControl
from ha_tasks.adapters.postgres_probe import PostgresProber
from ha_tasks.adapters.postgres_session import control_logins
from ha_tasks.failover.load_balancer import LoadBalancer
from ha_tasks.failover.traffic_router import TrafficRouter
from ha_tasks.model.load import ended_at, lost, outage_s, stale
from ha_tasks.model.platform import Platform, Routing
from ha_tasks.model.probe import OutcomeKind
from tests.fakes.repositories import FakeWantedServers
from tests.haproxy_server import HaproxyServer
from tests.postgres_pair import USER, PostgresPair, password, running_pair
from tests.servers import free_port

SETTINGS = {"shared_buffers": "16MB", "synchronous_commit": "on"}
"""With fsync: this is about lost writes."""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[PostgresPair]:
    with running_pair(tmp_path, SETTINGS) as started:
        yield started


@pytest.fixture
def edge(pair: PostgresPair, tmp_path: Path) -> Iterator[HaproxyServer]:
    nodes = {"pg1": pair.primary.port, "pg2": pair.standby.port}
    server = HaproxyServer(tmp_path, web={"web1": free_port()}, nodes=nodes)
    server.start()
    yield server
    server.stop()


def platform(pair: PostgresPair, edge: HaproxyServer) -> Platform:
    entry = f"127.0.0.1:{edge.ports['pg_write']}"
    service = replace(pair.service, routing=Routing(backend="pg_write", entry=entry))
    return Platform(name="p", services={"db": service}, hosts={}, balancers={})


def kill(pair: PostgresPair) -> None:
    """SIGKILL for the primary's whole tree, the postmaster first."""
    assert pair.primary._process is not None
    postmaster = psutil.Process(pair.primary._process.pid)
    for process in (postmaster, *postmaster.children()):
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    pair.primary._process.wait(timeout=10)


def test_acknowledged_writes_survive_and_new_ones_reach_the_promoted_node(
    pair: PostgresPair, edge: HaproxyServer
) -> None:
    pair.primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (pg2)'")
    pair.primary.execute("SELECT pg_reload_conf()")
    pair.standby.execute("SELECT 1")
    protected = platform(pair, edge)
    service = protected.services["db"]
    router = TrafficRouter(
        LoadBalancer({"edge": HaproxyControl(edge.socket)}, FakeWantedServers(), SYSTEM_CLOCK)
    )
    router.route_writes(service, "pg1")
    pair.primary.execute(f"GRANT CREATE ON SCHEMA public TO {USER}", "app")
    load = EntryLoads(protected, control_logins(password), SYSTEM_CLOCK).writes("db", pause_s=0.01)
    load.start()
    time.sleep(0.3)

    fault_at = datetime.now(UTC)
    kill(pair)
    with psycopg.connect(pair.standby.dsn(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
        connection.execute("SELECT pg_promote(true, 10)")
    router.route_writes(service, "pg2")
    routed_at = datetime.now(UTC)
    acknowledged = load.acknowledged()
    deadline = time.monotonic() + 5
    while load.acknowledged() < acknowledged + 50 and time.monotonic() < deadline:
        time.sleep(0.02)
    report = load.stop()

    outage = outage_s(report.acks, fault_at, ended_at(report))
    assert outage is not None
    assert fault_at + timedelta(seconds=outage) < routed_at + timedelta(seconds=1.5)
    assert (lost(report), stale(report.acks)) == (0, 0)
    assert {(a.node, a.timeline) for a in report.acks if a.acked_at > routed_at} == {("pg2", 2)}
    assert {(a.node, a.timeline) for a in report.acks if a.acked_at < fault_at} == {("pg1", 1)}

    control = SqlPostgresControl(password=password)
    assert service.routing is not None
    assert control.write_canary(service, service.routing.entry, "after", 2.0) == "pg2"
    prober = PostgresProber(password=password, agents=None, vantage="h/p", clock=SYSTEM_CLOCK)
    dead, promoted = prober.probe(service, service.instances)
    assert dead.kind is OutcomeKind.REFUSED
    assert (promoted.facts["in_recovery"], promoted.facts["timeline"]) == (False, 2)
