"""The stores on which the contract of the repositories is proved: in memory, SQLite, PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ha_tasks.store import Store
from ha_tasks.store.migration import migrate
from ha_tasks.store.tables import metadata
from tests.fakes.repositories import FakeStore
from tests.servers import PostgresServer

AnyStore = FakeStore | Store


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """One server for all tests of the session; each takes a database of its own, or empties a shared one."""
    server = PostgresServer(tmp_path_factory.mktemp("postgres"))
    server.initialise()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store with its tables and nothing in them, to be copied."""
    path = tmp_path_factory.mktemp("sqlite") / "ha.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_url(postgres_server: PostgresServer) -> str:
    """The URL of the database that the tests of the contract share."""
    return postgres_server.create_database("contract")


@pytest.fixture(scope="session")
def migrated_postgres(postgres_url: str) -> Iterator[Store]:
    """A PostgreSQL store with its tables."""
    store = Store(postgres_url)
    store.migrate()
    yield store
    store.dispose()


@pytest.fixture
def sqlite_url(migrated_sqlite: Path, tmp_path: Path) -> str:
    """The URL of an empty SQLite store."""
    return f"sqlite:///{shutil.copy(migrated_sqlite, tmp_path / 'ha.db')}"


@pytest.fixture
def sqlite_store(sqlite_url: str) -> Iterator[Store]:
    """An empty SQLite store."""
    store = Store(sqlite_url)
    yield store
    store.dispose()


@pytest.fixture
def postgres_store(postgres_server: PostgresServer, migrated_postgres: Store) -> Store:
    """An empty PostgreSQL store. Rows are numbered on from where the test before left off."""
    children_first = reversed(metadata.sorted_tables)
    emptied = "; ".join(f'DELETE FROM "{table.name}"' for table in children_first)  # noqa: S608 - our own table names
    postgres_server.execute(emptied, "contract")
    return migrated_postgres


@pytest.fixture(params=["fake", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest) -> AnyStore:
    """Each store in turn, empty."""
    if request.param == "fake":
        return FakeStore()
    made: Store = request.getfixturevalue(f"{request.param}_store")
    return made
