"""Bringing a store's tables to a revision: one transaction, one process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import URL, Connection, inspect, text

from ha_tasks.store.control_tables import identity
from ha_tasks.store.engine import Database
from ha_tasks.store.identity import give_identity

SCRIPTS = Path(__file__).parent / "migrations"
_LOCK = 4_127_006_511
"""PostgreSQL advisory lock of whoever migrates: a number that nothing else here uses."""

LIMIT_S = 60.0
"""For one statement of a migration, and for waiting until another has migrated."""


def migrate(url: str | URL, revision: str = "head") -> None:
    """Brings the tables up to ``revision``, and gives a new store its id.

    Idempotent; any number of processes may call it at once.
    Raises StoreUnreachable; then nothing has changed.
    """
    with _migrating(url) as connection:
        command.upgrade(configuration(connection), revision)
        if inspect(connection).has_table(identity.name):
            give_identity(connection)


def step_back(url: str | URL, revision: str) -> None:
    """Brings the tables down to ``revision`` (``base``: none). What was only in later ones is lost."""
    with _migrating(url) as connection:
        command.downgrade(configuration(connection), revision)


def revision_of(url: str | URL) -> str | None:
    """The revision of the tables; None when there are none."""
    database = Database(url, create=True)
    try:
        with database.reading() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    finally:
        database.dispose()


def configuration(connection: Connection) -> Config:
    """Alembic's configuration, made in code: it runs in the given connection's transaction."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


@contextmanager
def _migrating(url: str | URL) -> Iterator[Connection]:
    # SQLite checks foreign keys at each step of a batch, also where the table is only being exchanged.
    database = Database(url, foreign_keys=False, limit_s=LIMIT_S, create=True)
    try:
        with database.writing() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            yield connection
            if connection.dialect.name == "sqlite":
                _check_foreign_keys(connection)
    finally:
        database.dispose()


def _check_foreign_keys(connection: Connection) -> None:
    broken = connection.execute(text("PRAGMA foreign_key_check")).all()
    if broken:
        raise RuntimeError(f"the migration would leave rows that point nowhere: {broken[:3]}")
