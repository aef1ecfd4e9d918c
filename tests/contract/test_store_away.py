"""A store that is away: no call waits longer than it says, and its return is enough to go on."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy import make_url, text

from ha_tasks.adapters.clock import SystemClock
from ha_tasks.adapters.lease_keeper import ThreadedLeaseKeeper
from ha_tasks.errors import StoreUnreachable
from ha_tasks.model.run import Phase
from ha_tasks.store import Store
from ha_tasks.store.engine import BUSY_TIMEOUT_S, CONNECT_TIMEOUT_S, FRESH_S, GRACE_S, PING_WITHIN_S, Database
from tests.plans import NOW, new_run, on_scope
from tests.servers import PostgresServer

THREADS = 8
SLACK_S = 1.0
"""For a busy machine."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server of these tests' own: they stop and freeze it."""
    server = PostgresServer(tmp_path_factory.mktemp("away"))
    server.initialise()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def store(server: PostgresServer, request: pytest.FixtureRequest) -> Iterator[Store]:
    """A migrated store on that server, in a database of its own."""
    store = Store(server.create_database(request.node.name))
    store.migrate()
    yield store
    store.dispose()


@contextmanager
def frozen(server: PostgresServer) -> Iterator[None]:
    """Every process of the server stands still, as on a frozen host whose kernel still answers."""
    send_to_all(server, signal.SIGSTOP)
    try:
        yield
    finally:
        send_to_all(server, signal.SIGCONT)


def send_to_all(server: PostgresServer, number: signal.Signals) -> None:
    """To the postmaster and its children."""
    postmaster = psutil.Process(int((server.data / "postmaster.pid").read_text().partition("\n")[0]))
    for process in (postmaster, *postmaster.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # a backend whose client has gone ends by itself
            process.send_signal(number)


def seconds_until_refused(call: Callable[[], object]) -> float:
    """How long the call took to say that the store is unreachable."""
    begun = time.monotonic()
    with pytest.raises(StoreUnreachable):
        call()
    return time.monotonic() - begun


def test_a_frozen_server_is_unreachable_within_the_deadlines_of_a_ping_and_a_connection(
    server: PostgresServer, store: Store
):
    store.ping()
    time.sleep(FRESH_S)  # so long a connection is not asked again
    with frozen(server):
        took_s = seconds_until_refused(store.ping)

    assert took_s < PING_WITHIN_S + CONNECT_TIMEOUT_S + SLACK_S
    store.ping()


def test_a_server_that_freezes_within_a_transaction_is_left_after_the_deadline_of_an_answer(
    server: PostgresServer, request: pytest.FixtureRequest
):
    database = Database(server.create_database(request.node.name), limit_s=1.0)

    def begin_and_freeze() -> None:
        with database.writing() as connection:
            connection.execute(text("SELECT 1"))
            with frozen(server):
                connection.execute(text("SELECT 2"))

    took_s = seconds_until_refused(begin_and_freeze)

    assert took_s < 1.0 + GRACE_S + SLACK_S
    with database.writing() as connection:
        assert connection.execute(text("SELECT 3")).scalar() == 3
    database.dispose()


def test_the_pool_is_not_poisoned_by_a_freeze_that_met_many_threads(server: PostgresServer, store: Store):
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda _: store.ping(), range(THREADS)))
        with frozen(server):
            waits_s = list(pool.map(lambda _: seconds_until_refused(store.ping), range(THREADS)))

        begun = time.monotonic()
        made = pool.map(lambda n: store.journal.create(on_scope(f"s{n}", key=f"k{n}"), NOW), range(THREADS))
        assert len(list(made)) == THREADS
        took_s = time.monotonic() - begun

    assert max(waits_s) < BUSY_TIMEOUT_S + GRACE_S + CONNECT_TIMEOUT_S + SLACK_S
    assert took_s < 2.0


def test_a_stopped_server_is_unreachable_at_once_and_used_again_when_it_is_back(
    server: PostgresServer, store: Store
):
    store.ping()
    server.stop()
    took_s = seconds_until_refused(store.ping)
    run_took_s = seconds_until_refused(lambda: store.journal.create(new_run(), NOW))

    server.start()

    store.journal.create(new_run(), NOW)
    assert max(took_s, run_took_s) < 0.5


def test_a_commit_that_nobody_acknowledges_is_no_commit_that_is_believed(
    server: PostgresServer, request: pytest.FixtureRequest
):
    """The transaction's end is asked for as well: a freeze between the last statement and COMMIT."""
    database = Database(server.create_database(request.node.name), limit_s=1.0)

    def freeze_before_commit() -> None:
        with database.writing() as connection:
            connection.execute(text("CREATE TABLE t (x int)"))
            send_to_all(server, signal.SIGSTOP)

    try:
        took_s = seconds_until_refused(freeze_before_commit)
    finally:
        send_to_all(server, signal.SIGCONT)

    database.dispose()
    assert took_s < 1.0 + GRACE_S + SLACK_S


def test_a_damaged_postgresql_error_is_no_mistake_of_ours(server: PostgresServer, store: Store):
    database = Database(store._url)

    with pytest.raises(StoreUnreachable, match="damaged"), database.writing() as connection:
        connection.execute(text("DO $$ BEGIN RAISE EXCEPTION 'torn page' USING ERRCODE = 'XX001'; END $$"))

    database.dispose()


def test_a_deleted_sqlite_file_is_unreachable_and_not_made_anew(sqlite_store: Store, sqlite_url: str):
    path = Path(make_url(sqlite_url).database or "")
    sqlite_store.journal.create(new_run(), NOW)
    kept = path.with_name("kept.db")
    sqlite_store.dispose()
    shutil.copy(path, kept)
    sqlite_store.ping()

    path.unlink()

    with pytest.raises(StoreUnreachable, match="its file is gone; put it back"):
        sqlite_store.journal.active()
    assert not path.exists()
    kept.replace(path)
    assert len(sqlite_store.journal.active()) == 1


def test_a_sqlite_file_that_was_exchanged_is_read_and_not_its_unlinked_predecessor(
    sqlite_store: Store, sqlite_url: str, migrated_sqlite: Path
):
    sqlite_store.journal.create(new_run(), NOW)
    path = Path(make_url(sqlite_url).database or "")
    fresh = Path(shutil.copy(migrated_sqlite, path.with_name("fresh.db")))

    for leftover in (path, path.with_name("ha.db-wal"), path.with_name("ha.db-shm")):
        leftover.unlink(missing_ok=True)
    fresh.replace(path)

    assert sqlite_store.journal.active() == ()


def test_a_sqlite_store_whose_disk_is_full_is_unreachable_until_there_is_room(sqlite_url: str):
    database = Database(sqlite_url)
    with database.writing() as connection:
        connection.execute(text("CREATE TABLE ballast (x BLOB)"))
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
    with database.reading() as connection:
        connection.execute(text(f"PRAGMA max_page_count = {pages}"))

    with pytest.raises(StoreUnreachable, match="full"), database.writing() as connection:
        connection.execute(text("INSERT INTO ballast VALUES (zeroblob(1000000))"))

    with database.reading() as connection:
        connection.execute(text("PRAGMA max_page_count = 1000000"))
    with database.writing() as connection:
        connection.execute(text("INSERT INTO ballast VALUES (zeroblob(1000000))"))
    database.dispose()


def test_a_sqlite_store_that_another_has_locked_is_left_after_its_deadline(sqlite_url: str):
    store = Store(sqlite_url, limit_s=0.2)
    with closing(sqlite3.connect(make_url(sqlite_url).database or "", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        took_s = seconds_until_refused(lambda: store.journal.create(new_run(), NOW))
        other.execute("ROLLBACK")

    store.journal.create(new_run(), NOW)
    store.dispose()
    assert 0.2 <= took_s < 0.2 + SLACK_S


def test_a_lease_is_lost_when_an_empty_store_took_the_place_of_its_own(
    sqlite_store: Store, sqlite_url: str, tmp_path: Path
):
    run, _ = sqlite_store.journal.create(new_run(), NOW)
    clock = SystemClock()
    taken = sqlite_store.journal.claim(run.id, 1, Phase.DO, owner="w", now=clock.now(), lease_s=0.6)
    assert taken is not None
    keeper = ThreadedLeaseKeeper(journal=sqlite_store.journal, clock=clock, lease_s=0.6)
    empty = tmp_path / "nothing.db"
    empty.touch()

    with keeper.keep(taken) as lost:
        empty.replace(make_url(sqlite_url).database or "")
        ends = clock.monotonic() + 3.0
        while not lost() and clock.monotonic() < ends:
            clock.pause(0.05)

        assert lost()


def test_a_file_that_is_no_database_is_a_damaged_store(tmp_path: Path):
    (tmp_path / "ha.db").write_bytes(b"this is no database at all, but a good deal of text" * 100)
    store = Store(f"sqlite:///{tmp_path / 'ha.db'}")

    with pytest.raises(StoreUnreachable, match="damaged"):
        store.ping()

    store.dispose()


def test_the_connection_keeps_what_psycopg_says_of_an_error(server: PostgresServer, store: Store):
    """A deadline that did not pass changes nothing: the server's own words and its code arrive."""
    database = Database(store._url, limit_s=0.3)

    with pytest.raises(StoreUnreachable, match="statement timeout"), database.writing() as connection:
        connection.execute(text("SELECT pg_sleep(1)"))

    database.dispose()
    assert psycopg.errors.QueryCanceled.sqlstate == "57014"
