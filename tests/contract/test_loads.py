"""Loads: what they record, against a real PostgreSQL and a real HTTP server."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from ha_tasks.adapters.clock import SYSTEM_CLOCK
from ha_tasks.adapters.loads import EntryLoads
from ha_tasks.adapters.postgres_session import Login, control_logins
from ha_tasks.adapters.write_load import WriteLoad
from ha_tasks.errors import ServiceUnreachable, UsageError
from ha_tasks.model.load import lost
from ha_tasks.model.platform import Instance, Platform, PostgresSettings, Role, Routing, Service, ServiceKind
from ha_tasks.ports.faults import Load
from tests.servers import PostgresServer, free_port


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    server = PostgresServer(tmp_path_factory.mktemp("pg"))
    server.settings = {**server.settings, "cluster_name": "pg1"}
    server.initialise()
    server.start()
    yield server
    server.stop()


class Name(http.server.BaseHTTPRequestHandler):
    """Answers with its name; every third request with 503."""

    count = 0

    def do_GET(self) -> None:
        Name.count += 1
        body = json.dumps({"name": "web1"}).encode()
        self.send_response(503 if Name.count % 3 == 0 else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Quiet."""


@contextmanager
def web() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Name)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def loads(kind: ServiceKind, entry: str) -> EntryLoads:
    instance = Instance(name="one", service="s", host="h", address="127.0.0.1:1", role=Role.ACTIVE)
    service = Service(
        name="s",
        kind=kind,
        instances=(instance,),
        routing=Routing(backend="b", entry=entry),
        postgres=PostgresSettings(database="postgres", user="postgres"),
    )
    platform = Platform(name="p", services={"s": service}, hosts={}, balancers={})
    return EntryLoads(platform, control_logins(lambda _: None), SYSTEM_CLOCK)


def writes(database: PostgresServer, *, writers: int = 2) -> WriteLoad:
    found = loads(ServiceKind.POSTGRES, f"127.0.0.1:{database.port}")
    return found.writes("s", writers=writers, pause_s=0.005)


END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ha_tasks'"


def until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def tables(database: PostgresServer, load: WriteLoad) -> int:
    with psycopg.connect(database.dsn()) as connection:
        row = connection.execute("SELECT count(*) FROM pg_class WHERE relname = %s", [load.table]).fetchone()
    assert row is not None
    return int(row[0])


def test_acknowledged_writes_name_their_node_and_timeline_and_are_found_again(
    database: PostgresServer,
) -> None:
    load: Load = writes(database, writers=3)
    load.start()
    until(lambda: load.acknowledged() >= 30)

    report = load.stop()

    assert {(a.node, a.timeline) for a in report.acks} == {("pg1", 1)}
    assert {a.writer for a in report.acks} == {0, 1, 2}
    assert all(a.sent_at <= a.acked_at for a in report.acks)
    assert len({(a.writer, a.seq) for a in report.acks}) == len(report.acks) >= 30
    assert (report.misses, lost(report)) == ((), 0)


def test_the_table_goes_when_nothing_is_lost(database: PostgresServer) -> None:
    load = writes(database)
    load.start()
    load.stop()

    assert tables(database, load) == 0


def test_a_lost_write_is_counted_and_its_table_stays_until_it_is_dropped(database: PostgresServer) -> None:
    load = writes(database)
    load.start()
    until(lambda: load.acknowledged() >= 10)
    database.execute(f"DELETE FROM {load.table} WHERE seq = 2")  # noqa: S608 - the load named it

    report = load.stop()

    assert lost(report) == 2
    assert tables(database, load) == 1
    load.drop()
    load.drop()
    assert tables(database, load) == 0


def test_a_killed_connection_is_a_miss_and_the_writer_comes_back_at_once(database: PostgresServer) -> None:
    load = writes(database)
    load.start()
    database.execute(END_SESSIONS)
    before = load.acknowledged()
    until(lambda: load.acknowledged() > before + 10)

    report = load.stop()

    assert 1 <= len(report.misses) <= 2
    assert lost(report) == 0
    missed = {(m.writer, m.seq) for m in report.misses}
    assert not missed & {(a.writer, a.seq) for a in report.acks}


def test_a_commit_that_no_standby_has_is_not_acknowledged(database: PostgresServer) -> None:
    load = writes(database, writers=1)
    load.start()
    database.execute("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (pg2)'")
    database.execute("ALTER SYSTEM SET synchronous_commit = 'on'")
    database.execute("ALTER ROLE postgres SET synchronous_commit = 'on'")
    try:
        database.execute("SELECT pg_reload_conf()")
        database.execute(END_SESSIONS)
        until(lambda: _cancelled_waits(database) > 0)
    finally:
        database.execute("ALTER SYSTEM RESET synchronous_standby_names")
        database.execute("SELECT pg_reload_conf()")
        database.execute("ALTER ROLE postgres RESET synchronous_commit")

    report = load.stop()

    assert any(m.error == "committed locally only" for m in report.misses)
    assert lost(report) == 0


def _cancelled_waits(database: PostgresServer) -> int:
    """Cancels, as a person might, every commit that waits for a standby; answers how many there were."""
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        waiting = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        return len(connection.execute(waiting).fetchall())


def test_nobody_behind_the_entry_fails_the_start() -> None:
    load = loads(ServiceKind.POSTGRES, f"127.0.0.1:{free_port()}").writes("s")

    with pytest.raises(ServiceUnreachable):
        load.start()


def test_what_cannot_be_read_back_is_not_known(database: PostgresServer) -> None:
    load = WriteLoad(
        entry=f"127.0.0.1:{database.port}",
        login=Login(user="postgres", database="postgres"),
        clock=SYSTEM_CLOCK,
        writers=2,
        pause_s=0.005,
        settle_timeout_s=1.0,
    )
    load.start()
    database.stop()
    try:
        report = load.stop()
    finally:
        database.start()

    assert report.acks
    assert report.present is None
    assert lost(report) is None


def test_gets_are_acknowledged_by_200_and_name_who_answered() -> None:
    with web() as url:
        load = loads(ServiceKind.HTTP, url).gets("s", clients=2, pause_s=0.001)
        load.start()
        until(lambda: load.acknowledged() >= 10)
        report = load.stop()

    assert {(a.node, a.timeline) for a in report.acks} == {("web1", 0)}
    assert {m.error for m in report.misses} == {"HTTP 503"}
    assert lost(report) == 0


@pytest.mark.parametrize(("kind", "make"), [("http", "writes"), ("postgres", "gets"), ("redis", "gets")])
def test_a_load_of_the_wrong_kind_is_an_error_of_usage(kind: str, make: str) -> None:
    with pytest.raises(UsageError, match="with an entry"):
        getattr(loads(ServiceKind(kind), "127.0.0.1:1"), make)("s")


def test_a_load_for_an_unknown_service_is_an_error_of_usage() -> None:
    with pytest.raises(UsageError, match="nothing is no http service"):
        loads(ServiceKind.HTTP, "http://127.0.0.1:1/").gets("nothing")
