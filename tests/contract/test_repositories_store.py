"""The store itself: how it opens its database, what it says when that is out of reach, its migrations."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import inspect, make_url, text

from ha_tasks.errors import StoreUnreachable, UsageError
from ha_tasks.store import Store, open_engine
from ha_tasks.store.engine import Database
from ha_tasks.store.migration import configuration, migrate, revision_of, step_back
from ha_tasks.store.tables import metadata
from tests.plans import NOW, new_run
from tests.servers import PostgresServer


def test_sqlite_keeps_what_it_has_committed_and_checks_references(sqlite_url: str):
    engine = open_engine(sqlite_url)
    with engine.connect() as connection:
        said = [
            connection.exec_driver_sql(f"PRAGMA {pragma}").scalar()
            for pragma in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    engine.dispose()

    assert said == ["wal", 2, 1, 5000]


def test_postgresql_has_a_deadline_for_everything(postgres_url: str):
    engine = open_engine(postgres_url.replace("+psycopg", ""))
    with engine.connect() as connection:
        said = [
            connection.exec_driver_sql(f"SHOW {setting}").scalar()
            for setting in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        ]
    engine.dispose()

    assert said == ["5s", "5s", "10s"]


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql+pymysql://me:hunter2@db/ha"])
def test_a_store_that_cannot_be_shared_is_refused(url: str):
    with pytest.raises(UsageError) as refused:
        Store(url)

    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////nowhere/at/all/ha.db",
        "postgresql+psycopg://me:hunter2@127.0.0.1:1/ha",
        "postgresql+psycopg://me:hunter2@127.0.0.1:1/ha?connect_timeout=2",
        "postgresql+psycopg://me@127.0.0.1:1/ha?password=hunter2",
    ],
)
def test_an_unreachable_store_is_named_without_its_password(url: str):
    store = Store(url)

    with pytest.raises(StoreUnreachable) as unreachable:
        store.ping()

    store.dispose()
    shown = str(unreachable.value)
    assert make_url(url).set(query={}).render_as_string(hide_password=True) in shown
    assert "hunter2" not in shown
    assert "\n" not in shown


def test_a_locked_sqlite_store_is_unreachable_to_writers_only(sqlite_url: str):
    store = Store(f"{sqlite_url}?timeout=0.1")
    with closing(sqlite3.connect(make_url(sqlite_url).database or "", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(StoreUnreachable, match="locked"):
            store.journal.create(new_run(), NOW)
        assert store.journal.recent() == ()

        other.execute("ROLLBACK")
    store.journal.create(new_run(), NOW)
    store.dispose()


def test_a_locked_postgresql_store_is_unreachable(postgres_store: Store, postgres_url: str):
    url = make_url(postgres_url).update_query_dict({"options": "-c lock_timeout=50"})
    impatient, holder = Store(url), open_engine(postgres_url)
    with holder.begin() as connection:
        connection.execute(text("LOCK TABLE run IN ACCESS EXCLUSIVE MODE"))

        with pytest.raises(StoreUnreachable, match="lock timeout"):
            impatient.journal.create(new_run(), NOW)

    impatient.dispose()
    holder.dispose()


def test_a_postgresql_store_that_comes_back_is_used_again(
    postgres_server: PostgresServer, postgres_store: Store
):
    postgres_store.ping()
    postgres_server.stop()
    with pytest.raises(StoreUnreachable):
        postgres_store.ping()

    postgres_server.start()

    postgres_store.ping()


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without tables."""
    if request.param == "sqlite":
        (tmp_path / "empty.db").touch()
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    yield server.create_database("empty")
    server.execute('DROP DATABASE "empty" WITH (FORCE)')


def test_a_store_that_was_not_migrated_says_so(empty_url: str):
    store = Store(empty_url)

    with pytest.raises(UsageError, match="not migrated"):
        store.journal.recent()
    with pytest.raises(UsageError, match="not migrated"):
        store.journal.create(new_run(), NOW)

    store.dispose()


def test_tables_and_migrations_agree(empty_url: str):
    migrate(empty_url)
    database = Database(empty_url)

    with database.writing() as connection:
        command.check(configuration(connection))

    database.dispose()


def test_migrations_go_up_and_down(empty_url: str):
    assert revision_of(empty_url) is None
    migrate(empty_url)
    head = revision_of(empty_url)

    step_back(empty_url, "base")

    engine = open_engine(empty_url)
    assert inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()
    migrate(empty_url)
    assert revision_of(empty_url) == head is not None


def test_migrating_again_leaves_what_is_there(empty_url: str):
    store = Store(empty_url)
    store.migrate()
    run, _ = store.journal.create(new_run(), NOW)

    store.migrate()

    assert store.journal.get(run.id) == run
    store.dispose()


def test_any_number_may_migrate_at_once(empty_url: str):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate, [empty_url] * 4))

    assert revision_of(empty_url) is not None


def test_the_indexes_that_let_one_win_are_there(sqlite_store: Store, sqlite_url: str):
    engine = open_engine(sqlite_url)
    with engine.connect() as connection:
        query = text("SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE UNIQUE INDEX%WHERE%'")
        names = set(connection.execute(query).scalars())
    engine.dispose()

    assert names == {"uq_incident_key_held", "uq_run_scope_active", "uq_availability_interval_service_open"}


def test_a_copied_store_file_is_a_store(migrated_sqlite: Path, tmp_path: Path):
    """One file and no more: after the last connection is closed, the WAL is gone."""
    assert [path.name for path in migrated_sqlite.parent.iterdir()] == [migrated_sqlite.name]

    store = Store(f"sqlite:///{shutil.copy(migrated_sqlite, tmp_path / 'copy.db')}")
    store.ping()
    store.dispose()


def test_every_table_is_of_the_control_plane_and_not_of_a_service():
    assert not {"web", "db", "postgres", "http", "redis"} & set(metadata.tables)
