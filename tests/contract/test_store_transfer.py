"""Moving a store: from SQLite to PostgreSQL when an installation grows, and every other way."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from ha_tasks.errors import IdempotencyConflict, Refused, ScopeBusy, UsageError
from ha_tasks.model.run import Phase
from ha_tasks.store import Store, open_engine
from ha_tasks.store.migration import migrate
from ha_tasks.store.transfer import transfer
from tests.contract.filled_store import Rows, fill, rows_of
from tests.contract.test_repositories_incidents import opened
from tests.plans import NOW, at, new_run, on_scope, plan_of, planned
from tests.servers import PostgresServer

_NUMBER = itertools.count(1)


@pytest.fixture
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Kind -> URL of an empty database."""
    server: PostgresServer = request.getfixturevalue("postgres_server")
    made: list[str] = []

    def make(kind: str) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path / f'ha-{next(_NUMBER)}.db'}"
        made.append(f"transfer_{next(_NUMBER)}")
        return server.create_database(made[-1])

    yield make
    for name in made:
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def comparable(url: str) -> Rows:
    """What the store says, whichever database says it."""
    engine: Engine = open_engine(url)
    rows = rows_of(engine)
    engine.dispose()
    del rows["alembic_version"]
    rows["identity"] = [row for row in rows["identity"] if row["name"] != "moved_to"]
    return {t: [{k: _plain(v) for k, v in r.items()} for r in found] for t, found in rows.items()}


def _plain(value: object) -> object:
    return int(value) if isinstance(value, bool) else value


@pytest.fixture(params=[("sqlite", "postgres"), ("postgres", "sqlite"), ("sqlite", "sqlite")], ids="->".join)
def move(request: pytest.FixtureRequest, new_url: Callable[[str], str]) -> tuple[str, str]:
    """(URL of a store that has worked, URL of an empty database)."""
    source, target = map(new_url, request.param)
    store = Store(source)
    store.migrate()
    fill(store)
    store.dispose()
    return source, target


def test_every_row_arrives_and_the_identity_with_it(move: tuple[str, str]):
    source, target = move
    before = comparable(source)

    counts = transfer(source, target)

    assert comparable(target) == comparable(source) == before
    assert counts["run"] == 4
    assert {name: len(rows) for name, rows in before.items()} == dict(counts)


def test_the_moved_store_works_on_where_the_old_one_left_off(move: tuple[str, str]):
    source, target = move
    transfer(source, target)
    store = Store(target)
    runs, incidents = {r.id for r in store.journal.recent()}, {i.id for i in store.incidents.recent()}

    with pytest.raises(ScopeBusy):
        store.journal.create(on_scope("db", key="another"), at(20))
    with pytest.raises(IdempotencyConflict):
        store.journal.create(new_run(plan_of(planned(1, attempts=9)), key="ended"), at(20))
    half = next(run for run in store.journal.active() if run.plan.scope == "db")
    assert store.journal.claim(half.id, 1, Phase.DO, owner="w", now=at(30), lease_s=3) is not None
    assert store.journal.create(on_scope("new", key="new"), at(31))[0].id > max(runs)
    assert opened(store.incidents, at(31), key="new").id > max(incidents)
    assert store.journal.next_fence(at(32)) > 500
    store.dispose()


def test_a_number_of_a_message_that_is_gone_is_not_given_again(new_url: Callable[[str], str]):
    """A late tick must not meet another message under its number."""
    source, target = new_url("sqlite"), new_url("postgres")
    migrate(source)
    engine = open_engine(source)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES ('outbox', 4711)"))
    engine.dispose()

    transfer(source, target)

    store = Store(target)
    _, message = store.journal.create(new_run(), NOW)
    assert message is not None
    with store._database.reading() as connection:
        assert connection.execute(text("SELECT max(id) FROM outbox")).scalar_one() == 4712
    store.dispose()


def test_nothing_acts_by_the_copied_store_any_more(move: tuple[str, str]):
    source, target = move

    transfer(source, target)

    old, new = Store(source), Store(target)
    assert old.identity.read().moved_to == target
    assert new.identity.read().moved_to == ""
    assert old.identity.read().store_id == new.identity.read().store_id
    old.dispose()
    new.dispose()


def test_a_target_with_rows_is_refused_and_left_as_it_is(move: tuple[str, str]):
    source, target = move
    other = Store(target)
    other.migrate()
    other.journal.create(on_scope("theirs", key="theirs"), NOW)
    before = comparable(target)

    with pytest.raises(Refused, match="not empty"):
        transfer(source, target)

    assert comparable(target) == before
    other.dispose()
    mine = Store(source)
    assert mine.identity.read().moved_to == ""
    mine.dispose()


def test_a_store_is_not_moved_to_itself(new_url: Callable[[str], str]):
    url = new_url("sqlite")

    with pytest.raises(UsageError, match="there already"):
        transfer(url, url)
