"""E5 on real servers: commits that hang while reads are fine, on a dead disk and on nobody's word."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from ha_tasks.adapters.clock import SYSTEM_CLOCK
from ha_tasks.adapters.postgres_probe import PostgresProber
from ha_tasks.model.evidence import Evidence, EvidenceKind, judge_primary
from ha_tasks.model.platform import Instance, PostgresSettings, Role, Service, ServiceKind
from ha_tasks.model.probe import ProbeOutcome
from tests.servers import QUICK, PostgresServer

pytestmark = pytest.mark.full

HANGS_WITHIN_S = 30.0
VANTAGES = ("h1/a", "h2/b")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, which can be frozen."""
    image, mounted = tmp_path / "image", tmp_path / "disk"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(256 << 20)
    mount = [_program("mount"), "-o", "loop", str(image), str(mounted)]
    if os.geteuid() != 0 or not all(map(_program, ("mkfs.ext4", "fsfreeze", "mount"))):
        pytest.skip("freezing a file system needs root, mkfs.ext4 and fsfreeze")
    subprocess.run([_program("mkfs.ext4"), "-q", str(image)], check=True, timeout=60)
    if subprocess.run(mount, capture_output=True, check=False, timeout=60).returncode:
        pytest.skip("this machine mounts no loop device")
    try:
        yield mounted
    finally:
        _freeze(mounted, on=False)
        subprocess.run([_program("umount"), "--lazy", str(mounted)], check=True, timeout=60)


def _freeze(mounted: Path, *, on: bool) -> None:
    command = [_program("fsfreeze"), "-f" if on else "-u", str(mounted)]
    subprocess.run(command, check=on, timeout=60, capture_output=True)


def _program(name: str) -> str:
    """Its path; empty when it is not there."""
    return shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin") or ""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PostgresServer]:
    """It flushes each commit; not started yet."""
    it = PostgresServer(tmp_path, {**QUICK, "fsync": "on", "synchronous_commit": "on"})
    it.initialise()
    yield it
    it.stop()


def service_of(server: PostgresServer) -> Service:
    node = Instance(name="pg1", service="db", host="pg1", address=f"127.0.0.1:{server.port}", role=Role.NODE)
    return Service(
        name="db",
        kind=ServiceKind.POSTGRES,
        instances=(node,),
        postgres=PostgresSettings(database="postgres", user="postgres"),
    )


def first_evidence(server: PostgresServer) -> tuple[Evidence, float]:
    """What two vantages come to, a look each half second, and after how many seconds."""
    service = service_of(server)
    probers = {
        v: PostgresProber(password=lambda _: None, agents=None, vantage=v, clock=SYSTEM_CLOCK)
        for v in VANTAGES
    }
    seen: dict[str, list[ProbeOutcome]] = {v: [] for v in VANTAGES}
    began = time.monotonic()
    while time.monotonic() - began < HANGS_WITHIN_S:
        for vantage, prober in probers.items():
            seen[vantage] += prober.probe(service, service.instances)
        evidence = judge_primary(seen, [], quorum=2)
        if evidence.kind is not EvidenceKind.NONE:
            break
        time.sleep(0.5)
    return evidence, time.monotonic() - began


def insert(server: PostgresServer) -> threading.Thread:
    """A commit under way, in a thread of its own; what it hangs on decides about its end."""

    def run() -> None:
        with suppress(psycopg.Error):
            server.execute("INSERT INTO entries VALUES (1)")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_a_wal_disk_that_hangs_is_evidence_against_the_primary(server: PostgresServer, disk: Path) -> None:
    wal = server.data / "pg_wal"
    shutil.move(wal, disk / "wal")
    wal.symlink_to(disk / "wal")
    server.start()
    server.execute("CREATE TABLE entries (n int)")
    _freeze(disk, on=True)
    try:
        hanging = insert(server)
        evidence, took_s = first_evidence(server)
    finally:
        _freeze(disk, on=False)
    hanging.join(20)

    assert evidence.kind is EvidenceKind.STUCK_DISK
    assert took_s >= 9.5


def test_a_set_of_which_nobody_acknowledges_is_evidence_against_the_set(server: PostgresServer) -> None:
    server.start()
    server.execute("CREATE TABLE entries (n int)")
    server.execute("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (pg2)'")
    server.execute("SELECT pg_reload_conf()")
    hanging = insert(server)
    try:
        evidence, took_s = first_evidence(server)
    finally:
        server.execute("ALTER SYSTEM RESET synchronous_standby_names")
        server.execute("SELECT pg_reload_conf()")
    hanging.join(20)

    assert evidence.kind is EvidenceKind.STUCK_SET
    assert took_s >= 9.5


def test_a_busy_primary_whose_commits_go_on_gives_no_evidence(server: PostgresServer) -> None:
    """Every sample finds somebody who waits for the disk, and the WAL moves on."""
    server.start()
    server.execute("CREATE TABLE entries (n int)")
    over = threading.Event()

    def load() -> None:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            while not over.is_set():
                connection.execute("INSERT INTO entries SELECT generate_series(1, 2000)")

    writers = [threading.Thread(target=load) for _ in range(4)]
    for writer in writers:
        writer.start()
    try:
        evidence, _ = first_evidence(server)
    finally:
        over.set()
        for writer in writers:
            writer.join(20)

    assert evidence.kind is EvidenceKind.NONE
