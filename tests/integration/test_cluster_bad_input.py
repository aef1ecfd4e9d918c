"""Bad input about a cluster: real servers are set up wrong; ``check`` says what, where and how to mend it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ha_tasks.adapters.postgres import SqlPostgresControl
from ha_tasks.cli.connections import Answer
from ha_tasks.cli.replication_checks import rows
from ha_tasks.disaster_recovery.data_replication import DataReplication
from ha_tasks.embedded.binaries import resolve
from ha_tasks.embedded.unprivileged import choose
from ha_tasks.model.cluster import Cluster, ClusterState, sync_set_of
from ha_tasks.model.platform import Service
from ha_tasks.model.replication import NodeView, ReplicationReport
from tests.fakes.clock import FakeClock
from tests.fakes.host import FakeHostAgents
from tests.fakes.redis import FakeRedisControl
from tests.fakes.repositories import FakeClusters
from tests.postgres_pair import USER, PostgresPair, password, running_pair
from tests.servers import PostgresServer, free_port

SETTINGS = {"fsync": "off", "autovacuum": "off", "shared_buffers": "16MB", "max_connections": "50"}
"""What a test misconfigures must not stand on the command line, which wins. That nothing is synced is said of
each server, and left out below."""
WITHIN_S = 10.0


@dataclass
class Scene:
    """A pair in care, pg2 synchronous and with a slot."""

    pair: PostgresPair

    @property
    def service(self) -> Service:
        return self.pair.service

    def report(self, service: Service | None = None, secret: str | None = None) -> ReplicationReport:
        clusters, agents = FakeClusters(), FakeHostAgents(primary="pg1", others=["pg2"])
        both = sync_set_of(["pg2"])
        record = Cluster(name="db", epoch=1, primary="pg1", state=ClusterState.STEADY, sets=(both,))
        clusters.register(record, FakeClock().now())
        control = SqlPostgresControl(password=password if secret is None else lambda _: secret)
        agents.nodes["pg1"].binary = agents.nodes["pg2"].binary = ""
        replication = DataReplication(
            control=control, clusters=clusters, agents=agents, redis=FakeRedisControl()
        )
        return replication.check(service or self.service)

    def answers(self, service: Service | None = None) -> list[Answer]:
        """The rows of ``check --connect`` about the cluster."""
        found = rows(service or self.service, self.report(service))
        return [answer for answer in found if not answer.said.startswith("fsync = off")]

    def said(self, *words: str, service: Service | None = None) -> Answer:
        """The row in which all these words are said, once it is there."""
        deadline = time.monotonic() + WITHIN_S
        while True:
            answers = self.answers(service)
            for answer in answers:
                if all(word in f"{answer.what} {answer.said}" for word in words):
                    assert answer.remedy
                    return answer
            assert time.monotonic() < deadline, answers
            time.sleep(0.05)

    def well(self) -> None:
        """Returns once nothing is wrong."""
        deadline = time.monotonic() + WITHIN_S
        while answers := self.answers():
            assert time.monotonic() < deadline, answers
            time.sleep(0.05)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with running_pair(tmp_path_factory.mktemp("pair"), SETTINGS) as pair:
        pair.primary.execute("SELECT pg_create_physical_replication_slot('ha_pg2', true)")
        configure(pair.standby, "primary_slot_name", "ha_pg2")
        configure(pair.primary, "synchronous_standby_names", "ANY 1 (pg2)")
        made = Scene(pair)
        made.well()
        yield made


def configure(server: PostgresServer, name: str, value: str | None) -> None:
    """None: as it was by default."""
    server.execute(f"ALTER SYSTEM RESET {name}" if value is None else f"ALTER SYSTEM SET {name} = '{value}'")
    server.execute("SELECT pg_reload_conf()")


@contextmanager
def misconfigured(server: PostgresServer, name: str, value: str, back: str | None = None) -> Iterator[None]:
    configure(server, name, value)
    try:
        yield
    finally:
        configure(server, name, back)


@contextmanager
def stopped_cleanly(server: PostgresServer) -> Iterator[None]:
    """It is down meanwhile, and runs again afterwards."""
    process = server._process
    assert process is not None
    process.send_signal(signal.SIGINT)
    process.wait(timeout=20)
    yield
    server.start()


def test_of_a_pair_that_is_set_up_well_nothing_is_said(scene: Scene) -> None:
    scene.well()

    report = scene.report()
    assert (report.ok, report.risk.certainty, report.missing) == (True, "proven", ())
    views: dict[str, NodeView] = {view.node: view for view in report.nodes}
    assert views["pg2"].upstream == "pg1"
    assert [(s.name, s.active) for s in views["pg1"].slots] == [("ha_pg2", True)]


CASES: list[tuple[str, str, str, str | None, tuple[str, ...]]] = [
    ("pg1", "synchronous_standby_names", "", "ANY 1 (pg2)", ("pg1", "recorded is 'ANY 1 (pg2)'")),
    ("pg1", "synchronous_standby_names", "*", "ANY 1 (pg2)", ("pg1", "'*'", "whoever connects")),
    ("pg1", "synchronous_standby_names", "pg9", "ANY 1 (pg2)", ("pg1", "'pg9'")),
    ("pg1", "synchronous_commit", "local", None, ("pg1", "synchronous_commit = local")),
    ("pg1", "full_page_writes", "off", None, ("pg1", "full_page_writes = off")),
    ("pg2", "recovery_min_apply_delay", "1h", None, ("pg2", "recovery_min_apply_delay = 3600 s")),
    ("pg2", "primary_slot_name", "", "ha_pg2", ("pg2", "without a slot")),
]
"""Node, setting, wrong value, right value, what is said."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[1]}={case[2]}")
def test_a_setting_is_named_with_its_node_and_its_mending(
    scene: Scene, case: tuple[str, str, str, str | None, tuple[str, ...]]
) -> None:
    node, name, value, back, words = case
    server = scene.pair.primary if node == "pg1" else scene.pair.standby
    with misconfigured(server, name, value, back):
        scene.said(*words)
    scene.well()


def test_a_role_whose_commits_wait_for_nobody_is_named(scene: Scene) -> None:
    scene.pair.primary.execute("CREATE ROLE etl")
    scene.pair.primary.execute("ALTER ROLE etl IN DATABASE app SET synchronous_commit = off")
    try:
        answer = scene.said("pg1", "synchronous_commit = off for role etl in database app")
        assert answer.remedy == 'ALTER ROLE "etl" IN DATABASE "app" RESET synchronous_commit'
        assert scene.report().risk.certainty == "measured"
    finally:
        scene.pair.primary.execute("DROP ROLE etl")
    scene.well()


@pytest.mark.parametrize("right", ["pg_checkpoint", "pg_read_all_stats", "ha_repl"])
def test_a_right_that_is_missing_is_named_by_the_statement_that_gives_it(scene: Scene, right: str) -> None:
    scene.pair.primary.execute(f"REVOKE {right} FROM {USER}")
    try:
        assert f"GRANT {right} TO {USER}" in scene.said("pg1", "lacks rights").remedy
    finally:
        scene.pair.primary.execute(f"GRANT {right} TO {USER}")
    scene.well()


def test_the_right_to_write_the_canary_is_missing(scene: Scene) -> None:
    scene.pair.primary.execute(f"REVOKE INSERT ON ha.canary FROM {USER}", "app")
    try:
        assert "ha.canary" in scene.said("pg1", "lacks rights").remedy
    finally:
        scene.pair.primary.execute(f"GRANT INSERT ON ha.canary TO {USER}", "app")
    scene.well()


def test_a_wrong_password_keeps_every_server_from_being_asked(scene: Scene) -> None:
    report = scene.report(secret="a wrong one")

    assert report.risk.certainty == "unknown"
    assert all("password authentication failed" in view.trouble for view in report.nodes)
    assert "a wrong one" not in str(report)


def test_an_instance_that_nobody_runs_is_silent(scene: Scene) -> None:
    report = scene.report(moved(scene.service, free_port()))

    assert "refused" in report.nodes[1].trouble.lower()


def test_a_standby_of_another_system_is_named(scene: Scene, tmp_path: Path) -> None:
    with another_server(tmp_path / "strange", scene) as server:
        answer = scene.said("instances.pg2", "another cluster", service=moved(scene.service, server.port))

    assert "services.db.instances.pg2.address" in answer.remedy


@contextmanager
def another_server(home: Path, scene: Scene) -> Iterator[PostgresServer]:
    """A standby that follows nobody and comes from an initdb of its own."""
    home.mkdir()
    home.chmod(0o777)
    server = PostgresServer(home, SETTINGS)
    server.initialise()
    server.start()
    try:
        server.execute(f"CREATE ROLE {USER} LOGIN PASSWORD 'x'; GRANT pg_read_all_stats TO {USER}")
        server.execute("CREATE DATABASE app")
        with stopped_cleanly(server):
            mark_standby(server.data)
        yield server
    finally:
        server.stop()


def mark_standby(data: Path) -> None:
    owner, mark = data.stat(), data / "standby.signal"
    mark.touch()
    os.chown(mark, owner.st_uid, owner.st_gid)


def moved(service: Service, port: int) -> Service:
    """Its pg2 is said to be somewhere else."""
    first, second = service.instances
    return replace(service, instances=(first, replace(second, address=f"127.0.0.1:{port}")))


def test_neither_hints_nor_checksums_make_a_rewind_impossible(scene: Scene) -> None:
    program = str(resolve("postgres").directory / "pg_checksums")
    data = scene.pair.standby.data

    def checksums(way: str) -> None:
        with stopped_cleanly(scene.pair.standby):
            as_owner = choose(os.geteuid()).prefix
            command = [*as_owner, program, way, "--no-sync", "-D", str(data)]
            # Before PostgreSQL 18 there are none, and it says so.
            subprocess.run(command, check=False, timeout=60, capture_output=True)

    checksums("--disable")
    try:
        scene.said("pg2", "neither wal_log_hints nor data checksums")
    finally:
        checksums("--enable")
    scene.well()


def test_a_standby_without_sessions_says_so_by_its_refusal(scene: Scene) -> None:
    standby = scene.pair.standby
    standby.execute("ALTER SYSTEM SET hot_standby = off")
    process = standby._process
    assert process is not None
    process.send_signal(signal.SIGINT)
    process.wait(timeout=20)
    with pytest.raises(AssertionError):
        standby.start(timeout_s=1.0)
    try:
        assert "not accepting connections" in scene.report().nodes[1].trouble
    finally:
        standby.stop()
        auto = standby.data / "postgresql.auto.conf"
        auto.write_text("".join(li for li in auto.read_text().splitlines(True) if "hot_standby" not in li))
        standby.start()
    scene.well()


def test_two_primaries_are_found(scene: Scene) -> None:
    """The last one: nobody takes that back."""
    scene.pair.standby.execute("SELECT pg_promote()")

    answer = scene.said("services.db (replication)", "pg1 and pg2 take writes")
    assert "stop the wrong one" in answer.remedy
    assert scene.report().risk.certainty != "proven"
