"""Three real PostgreSQL nodes in the hands of three real agents: what a failover asks of them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ha_tasks.adapters.clock import SystemClock
from ha_tasks.adapters.deadline import Deadline
from ha_tasks.adapters.postgres_session import Login, Session
from ha_tasks.embedded.binaries import resolve
from ha_tasks.embedded.unprivileged import choose, give
from ha_tasks.errors import ActionFailed, AgentRefused, AgentUnreachable, ServiceUnreachable, StaleAuthority
from ha_tasks.model.plain import Json
from ha_tasks.ports.host import Authority, Postmaster
from tests.integration.agent_nodes import PASSWORD, Node, Nodes, nodes, thaw, wait_until
from workers.agent import processes

NAMES = ("pg1", "pg2", "pg3")


class Cluster:
    """A primary and two standbys, ``ANY 1`` of which must have a commit; who is what changes."""

    def __init__(self, made: Nodes) -> None:
        self.nodes = made
        self.agents = made.agents
        self.primary, self.first, self.second = (made[name] for name in NAMES)

    def settle(self) -> None:
        """A new epoch; the newest primary runs and the other two stream from it."""
        by = self.nodes.next_epoch()
        states = {name: self.agents.status(name, timeout_s=5.0) for name in NAMES}
        name = max(NAMES, key=lambda n: (not self.nodes[n].is_standby, states[n].timeline or 0))
        self.primary = self.nodes[name]
        self.first, self.second = (self.nodes[n] for n in NAMES if n != name)
        self.agents.start_primary(name, "", by)
        for node in (self.first, self.second):
            if not self.agents.status(node.name, timeout_s=5.0).receiving:
                self.rejoin(node, self.primary, f"settle-{by.epoch}")
        self.agents.set_sync(name, f"ANY 1 ({self.first.name}, {self.second.name})", by)
        wait_until(self.streams, what="both standbys stream")

    def streams(self) -> bool:
        return self.primary.value("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == "2"

    @property
    def by(self) -> Authority:
        return self.nodes.by

    def rejoin(self, node: Node, upstream: Node, job: str) -> Json:
        return self.agents.rejoin(node.name, upstream.name, self.by, job, timeout_s=60)

    def take_over(self) -> int:
        """Revoke both, point the second to the first, promote the first: the heart of a failover."""
        by = self.nodes.next_epoch()
        for node in (self.first, self.second):
            self.agents.revoke(node.name, by)
        self.agents.follow(self.second.name, self.first.name, by)
        return self.agents.promote(self.first.name, f"ANY 1 ({self.second.name})", by)


@pytest.fixture(scope="module")
def three_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with nodes(tmp_path_factory.mktemp("nodes"), *NAMES) as made:
        made["pg1"].rows("CREATE TABLE entries (id text PRIMARY KEY)")
        yield Cluster(made)


@pytest.fixture
def cluster(three_nodes: Cluster) -> Cluster:
    three_nodes.settle()
    return three_nodes


def write(node: Node, entry: str, *, within_s: float = 5.0) -> bool:
    """True when the node acknowledged it."""
    try:
        node.rows("INSERT INTO entries VALUES ($1)", entry, timeout_s=within_s)
    except ServiceUnreachable:
        return False
    return True


def has(node: Node, entry: str) -> bool:
    return node.value("SELECT count(*) FROM entries WHERE id = $1", entry) == "1"


def test_a_killed_postmaster_is_seen_at_once_and_takes_its_tree_along(cluster):
    began = time.monotonic()
    os.kill(cluster.primary.postmaster(), signal.SIGKILL)
    wait_until(
        lambda: cluster.agents.status(cluster.primary.name, timeout_s=2.0).postmaster is Postmaster.EXITED
    )
    seen_s = time.monotonic() - began
    wait_until(lambda: not cluster.primary.tree(), within_s=2.0)

    assert seen_s < 1.0
    assert cluster.agents.status(cluster.primary.name, timeout_s=2.0).in_recovery is None


def test_nothing_is_acknowledged_after_the_revocation_and_the_rest_is_rewound_away(cluster):
    """The old primary lives and is reachable all the time: revocation alone is the fence."""
    old = cluster.primary
    assert write(old, "acknowledged")
    timeline = cluster.take_over()

    assert not write(old, "never-acknowledged", within_s=0.7)
    assert write(cluster.first, "after")
    answer = cluster.agents.rejoin(
        old.name, cluster.first.name, cluster.by, f"rewind-{timeline}", timeout_s=60
    )
    wait_until(lambda: has(old, "after"), what="the old primary has caught up")

    assert answer["method"] == "rewind"
    assert (Path(answer["kept"]) / "divergence.json").exists()
    assert any(path.name.startswith("0000") for path in Path(answer["kept"]).iterdir())
    assert (has(old, "acknowledged"), has(old, "never-acknowledged")) == (True, False)
    assert cluster.agents.status(old.name, timeout_s=2.0).timeline == timeline


def test_revoking_ends_a_receiver_whose_replay_is_held_by_a_reader(cluster):
    """Without a signal such a receiver lived on for 29 s and went on acknowledging."""
    cluster.primary.rows("INSERT INTO entries SELECT 'held-' || n FROM generate_series(1, 100) n")
    lsn = cluster.primary.value("SELECT pg_current_wal_flush_lsn()")
    wait_until(lambda: cluster.first.value(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'") == "t")
    login = Login(user="postgres", database="postgres", password=PASSWORD)
    within = Deadline(SystemClock(), 20.0)
    with Session(f"127.0.0.1:{cluster.first.port}", login, within=within, statement_timeout_s=20.0) as reader:
        reader.query("BEGIN ISOLATION LEVEL REPEATABLE READ", within=within)
        reader.query("SELECT count(*) FROM entries", within=within)
        cluster.primary.rows("DELETE FROM entries WHERE id LIKE 'held-%'")
        cluster.primary.rows("VACUUM entries")
        held = "SELECT count(*) FROM pg_stat_activity WHERE wait_event LIKE 'RecoveryConflict%'"
        wait_until(lambda: cluster.first.value(held) == "1", what="replay is held")
        began = time.monotonic()
        cluster.agents.revoke(cluster.first.name, cluster.nodes.next_epoch(), timeout_s=5.0)
        took_s = time.monotonic() - began

    assert took_s < 4.0
    assert cluster.first.value("SELECT count(*) FROM pg_stat_wal_receiver") == "0"


def test_revoking_resumes_a_paused_replay(cluster):
    cluster.first.rows("SELECT pg_wal_replay_pause()")
    cluster.agents.revoke(cluster.first.name, cluster.nodes.next_epoch())

    assert cluster.first.value("SELECT pg_get_wal_replay_pause_state()") == "not paused"


def test_a_frozen_server_is_reported_and_fenced(cluster):
    tree = cluster.first.tree()
    for pid in tree:
        os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    status = cluster.agents.status(cluster.first.name, timeout_s=2.0)
    took_s = time.monotonic() - began
    cluster.agents.fence(cluster.first.name, cluster.by)

    assert (status.postmaster, status.in_recovery) == (Postmaster.RUNNING, None)
    assert status.stopped == "every process"
    assert took_s < 1.0
    assert not cluster.first.tree()


def test_a_frozen_postmaster_is_named_while_old_sessions_go_on(cluster):
    postmaster = cluster.primary.postmaster()

    def status():
        return cluster.agents.status(cluster.primary.name, timeout_s=2.0)

    wait_until(lambda: status().unanswered_s is not None)
    os.kill(postmaster, signal.SIGSTOP)
    try:
        wait_until(lambda: (status().unanswered_s or 0.0) > 1.5)
        frozen = status()
    finally:
        thaw(postmaster)
    wait_until(lambda: status().unanswered_s == 0.0)

    assert (frozen.postmaster, frozen.in_recovery) == (Postmaster.RUNNING, None)
    assert (frozen.stopped, status().stopped) == ("the postmaster", "")


def test_postgres_outlives_its_agent_and_the_ledger_outlives_both(cluster):
    node = cluster.first
    cluster.agents.follow(node.name, cluster.primary.name, cluster.by)
    postmaster = node.postmaster()
    node.agent.kill()
    with pytest.raises(AgentUnreachable):
        cluster.agents.status(node.name)
    node.agent.start()
    adopted = cluster.agents.status(node.name, timeout_s=5.0)
    with pytest.raises(StaleAuthority):
        cluster.agents.fence(node.name, Authority(epoch=cluster.by.epoch - 1, fence=10**6))

    assert (adopted.postmaster, adopted.epoch) == (Postmaster.RUNNING, cluster.by.epoch)
    assert node.postmaster() == postmaster
    os.kill(postmaster, signal.SIGKILL)
    wait_until(lambda: cluster.agents.status(node.name, timeout_s=2.0).postmaster is Postmaster.EXITED)


def test_an_agent_that_finds_nothing_running_says_absent_and_starts_nothing(cluster):
    node = cluster.first
    cluster.agents.fence(node.name, cluster.by)
    node.agent.kill()
    node.agent.start()

    assert cluster.agents.status(node.name, timeout_s=5.0).postmaster is Postmaster.ABSENT
    assert not node.tree()
    cluster.agents.start_standby(node.name, cluster.primary.name, cluster.by)
    wait_until(lambda: cluster.agents.status(node.name, timeout_s=2.0).receiving, what="it streams")


def test_two_timelines_of_one_number_are_told_apart_and_the_data_is_built_anew(cluster):
    """Promoted without knowing of each other, both call their timeline the same."""
    by = cluster.nodes.next_epoch()
    for node in (cluster.first, cluster.second):
        cluster.agents.revoke(node.name, by)
    cluster.agents.fence(cluster.primary.name, by)
    ours = cluster.agents.promote(cluster.first.name, "", by)
    assert write(cluster.first, f"only-first-{by.epoch}")
    cluster.agents.fence(cluster.first.name, by)
    theirs = cluster.agents.promote(cluster.second.name, "", by)
    assert write(cluster.second, f"only-second-{by.epoch}")
    with pytest.raises(AgentRefused, match="rejoin"):
        cluster.agents.start_standby(cluster.first.name, cluster.second.name, by)
    answer = cluster.agents.rejoin(
        cluster.first.name, cluster.second.name, by, f"twin-{by.epoch}", timeout_s=60
    )
    wait_until(lambda: has(cluster.first, f"only-second-{by.epoch}"))

    assert ours == theirs
    assert answer["method"] == "basebackup"
    assert not has(cluster.first, f"only-first-{by.epoch}")
    assert Path(answer["kept"]).name.startswith("data.diverged-")


def test_a_rejoin_is_finished_under_its_id_when_the_agent_died_in_the_middle(cluster):
    old, job = cluster.primary, f"interrupted-{cluster.by.epoch}"
    cluster.take_over()
    answers: list[object] = []

    def rejoin() -> None:
        answers.append(cluster.rejoin(old, cluster.first, job))

    waiting = threading.Thread(target=rejoin)
    waiting.start()
    wait_until(lambda: cluster.agents.status(old.name, timeout_s=2.0).job.get("id") == job)
    wait_until(lambda: "did not end" in old.remembered(), what="it is being rewound")
    old.agent.kill()
    old.agent.start()
    waiting.join(60)

    assert [sorted(answer) for answer in answers] == [["kept", "method"]]
    assert cluster.agents.status(old.name, timeout_s=2.0).promotion_begun is None
    assert cluster.agents.status(old.name, timeout_s=2.0).upstream == cluster.first.name


def test_a_command_that_is_overtaken_by_a_higher_epoch_has_no_late_effect(cluster):
    """A start that waits for a slow server is called off; the fence of the later epoch stands."""
    cluster.agents.fence(cluster.primary.name, cluster.by)
    later = Authority(epoch=cluster.by.epoch + 1, fence=cluster.by.fence + 1)
    outcome: list[object] = []

    def start() -> None:
        try:
            outcome.append(cluster.agents.start_primary(cluster.primary.name, "", cluster.by))
        except AgentRefused as error:
            outcome.append(error)

    starting = threading.Thread(target=start)
    starting.start()
    cluster.agents.fence(cluster.primary.name, later)
    starting.join(30)
    cluster.nodes.next_epoch()

    assert not cluster.primary.tree()
    assert cluster.agents.status(cluster.primary.name, timeout_s=2.0).postmaster is Postmaster.EXITED


def test_every_program_of_the_data_directory_is_a_plain_postgres_process(cluster):
    """The user namespace's program has replaced itself: no wrapper is left that a fence could miss."""
    titles = {processes.title(pid).split(":")[0] for pid in cluster.primary.tree()}

    assert titles <= {"postgres", processes.title(cluster.primary.postmaster())}


def test_what_alter_system_says_about_the_set_does_not_win(cluster):
    primary = cluster.primary
    primary.rows("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (elsewhere)'")
    primary.rows("ALTER SYSTEM SET work_mem = '5MB'")
    primary.rows("SELECT pg_reload_conf()")
    wait_until(lambda: "elsewhere" in str(primary.value("SHOW synchronous_standby_names")), what="is edited")

    cluster.agents.set_sync(primary.name, f"ANY 1 ({cluster.first.name})", cluster.by)

    assert primary.value("SHOW synchronous_standby_names") == f"ANY 1 ({cluster.first.name})"
    assert primary.value("SHOW work_mem") == "5MB"
    assert "elsewhere" not in (primary.data / "postgresql.auto.conf").read_text()


def test_a_base_backup_for_which_there_is_no_room_is_not_begun_and_deletes_nothing(cluster):
    """A file of 8 TB that takes no room stands for the data of the upstream."""
    node, upstream = cluster.second, cluster.primary
    place = str(upstream.value("SELECT pg_relation_filepath('entries')"))
    huge = (upstream.data / place).with_name("99999999")
    older = node.data.with_name("data.diverged-20200101T000000")
    cluster.agents.fence(node.name, cluster.by)
    (node.data / "global" / "pg_control").rename(node.data / "pg_control.aside")
    older.mkdir()
    with huge.open("wb") as file:
        file.truncate(8 * 1024**4)
    try:
        with pytest.raises(ActionFailed) as refused:
            cluster.rejoin(node, upstream, f"no-room-{cluster.by.epoch}")
    finally:
        huge.unlink()

    text = str(refused.value)
    assert re.search(
        rf"needs 8,3\d\d,\d{{3}} MB in {node.data}.new, where [\d,]+ MB are free: [\d,]+ by", text
    )
    assert f"no room on {node.name} for a new base backup from {upstream.name}" in text
    assert f"earlier rejoins, which nobody needs to run: {older}" in text
    assert f"ha-tasks recover SERVICE --instance {node.name}" in text
    assert (older.exists(), (node.data / "pg_control.aside").exists()) == (True, True)
    assert not node.data.with_name("data.new").exists()


def test_a_base_backup_says_how_far_it_is_by_its_upstreams_own_count(cluster):
    """It is let go on for moments only, so that the midst of it can be looked at."""
    node, upstream, job = cluster.second, cluster.primary, f"watched-{cluster.by.epoch}"
    counted = "SELECT backup_total FROM pg_stat_progress_basebackup WHERE backup_streamed > 0"
    cluster.agents.fence(node.name, cluster.by)
    (node.data / "global" / "pg_control").unlink()
    answers: list[Json] = []
    waiting = threading.Thread(target=lambda: answers.append(cluster.rejoin(node, upstream, job)))
    waiting.start()
    copying = node.data.with_name("data.new")
    wait_until(lambda: copying.exists() and processes.holders(copying), what="the base backup has begun")
    # Not its child, which streams the WAL: a frozen one is cut off after wal_sender_timeout.
    program = min(processes.holders(copying))

    def is_under_way() -> bool:
        processes.send(program, signal.SIGCONT)
        time.sleep(0.01)
        processes.send(program, signal.SIGSTOP)
        return bool(upstream.rows(counted))

    def told() -> Json:
        return dict(cluster.agents.status(node.name, timeout_s=2.0).job.get("progress", {}))

    try:
        wait_until(is_under_way, within_s=30.0, what="the base backup is under way")
        wait_until(lambda: told().get("percent"), what="its agent tells of it")
        total, progress = upstream.value(counted), told()
    finally:
        thaw(program)
    waiting.join(60)

    assert progress["doing"] == f"base backup from {upstream.name}"
    assert (progress["of_bytes"], 0 < progress["percent"] < 100) == (int(total or 0), True)
    assert [answer["method"] for answer in answers] == ["basebackup"]


def test_the_slot_of_a_former_node_is_dropped_once_nobody_reads_it(cluster, tmp_path):
    primary, way = cluster.primary, choose(os.geteuid())
    count = "SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'ha_gone%' AND active = $1"
    for name in ("ha_gone", "ha_gone_too"):
        primary.rows("SELECT pg_create_physical_replication_slot($1, true)", name)
    give(tmp_path, way)
    program = resolve("postgres").directory / "pg_receivewal"
    login = f"host=127.0.0.1 port={primary.port} user=ha_repl password={PASSWORD}"
    command = [*way.prefix, str(program), "-D", str(tmp_path), "--slot=ha_gone", "-d", login]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as reader:
        try:
            wait_until(lambda: primary.value(count, "t") == "1", what="it is read")
            cluster.agents.drop_slot(primary.name, "ha_gone_too", cluster.by)
            with pytest.raises(AgentRefused, match="read by somebody"):
                cluster.agents.drop_slot(primary.name, "ha_gone", cluster.by)
        finally:
            reader.kill()
    wait_until(lambda: primary.value(count, "f") == "1", what="it is read by nobody")
    cluster.agents.drop_slot(primary.name, "ha_gone", cluster.by)

    assert primary.value(count, "f") == primary.value(count, "t") == "0"
    assert cluster.streams()
