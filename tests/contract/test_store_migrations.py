"""Migrations both ways on a store that has worked: what both revisions can say survives on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from ha_tasks.errors import ScopeBusy
from ha_tasks.model.run import Phase
from ha_tasks.store import Store, open_engine
from ha_tasks.store.migration import migrate, revision_of, step_back
from tests.contract.filled_store import Rows, fill, rows_of, shape_of
from tests.contract.test_repositories_incidents import opened
from tests.plans import NOW, at, on_scope
from tests.servers import PostgresServer

FIRST, SECOND = "0001", "0002"
ONLY_LATER = {
    "run": {"revision", "approval_until", "approved_by", "deadline"},
    "worker": {"revision"},
    "switch": {"scope"},
    "incident": {"parent"},
    "cooldown": {"length_s"},
}
"""Columns that 0001 does not have."""


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'ha.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    yield server.create_database("moved")
    server.execute('DROP DATABASE "moved" WITH (FORCE)')


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """To look at what is there."""
    engine = open_engine(url, create=True)
    yield engine
    engine.dispose()


@pytest.fixture
def worked(url: str, engine: Engine) -> Iterator[Store]:
    """A store at the second revision with the rows of an installation that has worked."""
    migrate(url, SECOND)
    store = Store(url)
    fill(store)
    yield store
    store.dispose()


def both_can_say(rows: Rows) -> Rows:
    """What revision 0001 has words for."""
    return {
        table: [{k: v for k, v in row.items() if k not in ONLY_LATER.get(table, ())} for row in found]
        for table, found in rows.items()
        if table in rows and table != "alembic_version"
    }


def test_what_both_revisions_can_say_survives_the_way_down_and_up_and_down_and_up(
    worked: Store, url: str, engine: Engine
):
    second = rows_of(engine)
    step_back(url, FIRST)
    first = rows_of(engine)
    migrate(url, SECOND)
    second_again = rows_of(engine)
    step_back(url, FIRST)
    first_again = rows_of(engine)
    migrate(url, SECOND)

    assert {table: len(found) for table, found in first.items() if not found} == {}
    assert both_can_say(second)["switch"] == both_can_say(first)["switch"]
    assert {t: r for t, r in both_can_say(second).items() if t in first} == both_can_say(first)
    assert first_again == first
    assert {t: r for t, r in second_again.items() if t in first and t != "alembic_version"} == {
        t: r for t, r in second.items() if t in first and t != "alembic_version"
    }
    # 0001 has no identity: a store that was there in between is another one.
    assert {**rows_of(engine), "identity": ()} == {**second_again, "identity": ()}


def test_a_revision_has_one_shape_whichever_way_it_was_reached(url: str, engine: Engine):
    migrate(url, FIRST)
    first = shape_of(engine)
    migrate(url, SECOND)
    second = shape_of(engine)

    step_back(url, FIRST)
    assert shape_of(engine) == first
    migrate(url, SECOND)
    assert shape_of(engine) == second


def test_a_store_of_the_first_revision_is_brought_up_with_its_rows(url: str, engine: Engine):
    migrate(url, FIRST)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO switch (name, engaged, actor, reason, changed_at)"
                " VALUES ('stop', :yes, 'anna', 'the racks move', 1), ('observe', :no, 'ben', 'done', 2)"
            ),
            {"yes": True, "no": False},
        )

    migrate(url)

    store = Store(url)
    assert (store.limits.switch("stop"), store.limits.switch("observe")) == ("anna", None)
    store.dispose()


def test_a_switch_of_one_scope_is_lost_on_the_way_down_and_that_of_everything_stays(
    worked: Store, url: str, engine: Engine
):
    worked.limits.set_switch("stop", True, "carl", "only the cache", NOW, scope="cache")

    step_back(url, FIRST)

    assert [(row["name"], row["actor"]) for row in rows_of(engine)["switch"]] == [
        ("observe", "ben"),
        ("stop", "anna"),
    ]


def test_after_all_that_the_store_works_on_where_it_left_off(worked: Store, url: str):
    numbers = {run.id for run in worked.journal.recent()}
    incidents = {incident.id for incident in worked.incidents.recent()}
    worked.dispose()
    for _ in range(2):
        step_back(url, FIRST)
        migrate(url, SECOND)

    with pytest.raises(ScopeBusy):
        worked.journal.create(on_scope("db", key="another"), at(20))
    half = next(run for run in worked.journal.active() if run.plan.scope == "db")
    assert worked.journal.claim(half.id, 1, Phase.DO, owner="w", now=at(30), lease_s=3) is not None
    assert worked.journal.create(on_scope("new", key="new"), at(31))[0].id > max(numbers)
    assert opened(worked.incidents, at(31), key="new").id > max(incidents)
    assert opened(worked.incidents, at(31), key="third").id in incidents
    assert worked.journal.next_fence(at(32)) > 500


def test_the_way_down_to_nothing_leaves_nothing(worked: Store, url: str, engine: Engine):
    worked.dispose()
    step_back(url, "base")

    assert revision_of(url) is None
    assert set(shape_of(engine)) == {"alembic_version"}
