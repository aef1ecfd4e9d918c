"""The contract of the store's identity, on all three stores; and the memory of a home."""

from __future__ import annotations

from pathlib import Path

import pytest

from ha_tasks.adapters.served_store import ServedStoreFile
from ha_tasks.errors import StaleEpoch, UsageError
from ha_tasks.model.cluster import Cluster, ClusterState
from ha_tasks.ports.identity import ServedStore
from ha_tasks.store import Store
from ha_tasks.store.control_tables import identity
from ha_tasks.store.identity import give_identity
from ha_tasks.store.migration import migrate, step_back
from tests.contract.conftest import AnyStore
from tests.fakes.identity import FakeServedStore
from tests.plans import NOW, at


@pytest.fixture
def named(store: AnyStore) -> AnyStore:
    """A store with its id; the shared PostgreSQL store was emptied, and with it the id."""
    if isinstance(store, Store):
        with store._database.writing() as connection:
            give_identity(connection)
    return store


def db(epoch: int, primary: str = "pg1") -> Cluster:
    return Cluster(name="db", epoch=epoch, primary=primary, state=ClusterState.STEADY, sets=())


def test_a_new_store_says_its_id_and_nothing_else(named: AnyStore):
    said = named.identity.read()

    assert said.store_id
    assert (said.succeeds, said.strangers, said.epochs, said.epochs_seen) == (
        frozenset(),
        frozenset(),
        {},
        {},
    )
    assert (said.moved_to, said.approving, said.held, said.fence, said.fence_seen) == ("", "", "", 0, 0)


def test_it_says_its_fence_and_its_epochs_as_they_are_now(named: AnyStore):
    named.journal.raise_fence(70)
    fence = named.journal.next_fence(NOW)
    named.clusters.register(db(3), NOW)
    named.clusters.advance("db", 3, NOW, new_epoch=True)

    said = named.identity.read()

    assert (said.fence, said.epochs) == (fence, {"db": 4})


def test_what_was_seen_elsewhere_is_kept_and_never_goes_down(named: AnyStore):
    named.identity.witness({"db": 7, "other": 1}, 90)
    named.identity.witness({"db": 5}, 12)
    named.identity.witness({"db": 8}, 91)

    said = named.identity.read()

    assert (said.epochs_seen, said.fence_seen) == ({"db": 8, "other": 1}, 91)


def test_an_approved_store_takes_the_place_of_every_stranger(named: AnyStore):
    named.identity.stranger("old-1", "host-a")
    named.identity.stranger("old-1", "host-b")
    named.identity.stranger("old-2", "host-c")
    named.identity.hold("it is another")
    named.identity.approving("anna")
    begun = named.identity.read()

    named.identity.approved("anna", NOW)
    named.identity.approved("anna", at(1))

    said = named.identity.read()
    assert (begun.strangers, begun.held, begun.approving) == ({"old-1", "old-2"}, "it is another", "anna")
    assert (said.succeeds, said.strangers) == ({"old-1", "old-2"}, frozenset())
    assert (said.held, said.approving, said.store_id) == ("", "", begun.store_id)


def test_a_cluster_is_seated_whatever_stood_there_but_only_upwards(named: AnyStore):
    named.identity.seat(db(5), NOW)
    named.identity.seat(db(9, "pg2"), NOW)

    for epoch in (9, 3):
        with pytest.raises(StaleEpoch):
            named.identity.seat(db(epoch, "pg3"), NOW)
    assert named.clusters.get("db") == db(9, "pg2")


@pytest.fixture(params=["sqlite", "postgres"])
def real(request: pytest.FixtureRequest) -> Store:
    """Each real store, empty."""
    made: Store = request.getfixturevalue(f"{request.param}_store")
    return made


def test_a_migrated_store_has_an_id_of_its_own_and_keeps_it(tmp_path: Path):
    ids = []
    for name in ("one.db", "two.db"):
        store = Store(f"sqlite:///{tmp_path / name}")
        store.migrate()
        ids.append(store.identity.read().store_id)
        store.migrate()
        assert store.identity.read().store_id == ids[-1]
        store.dispose()

    assert len(set(ids)) == 2


def test_a_store_of_the_first_revision_gets_its_id_when_it_is_migrated(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'ha.db'}"
    migrate(url, "0001")
    migrate(url)
    store = Store(url)
    first = store.identity.read().store_id
    step_back(url, "0001")
    migrate(url)

    assert store.identity.read().store_id != first
    store.dispose()


def test_a_store_without_an_id_is_not_migrated(real: Store):
    with real._database.writing() as connection:
        connection.execute(identity.delete())

    with pytest.raises(UsageError, match="ha-tasks migrate"):
        real.identity.read()


@pytest.fixture(params=["fake", "file"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> ServedStore:
    """A home's memory, of a home that has served nothing."""
    return FakeServedStore() if request.param == "fake" else ServedStoreFile(tmp_path / "run" / "store-id")


def test_a_home_remembers_the_store_that_it_served_last(served: ServedStore):
    assert served.last() is None
    served.remember("one")
    served.remember("one")
    assert served.last() == "one"
    served.remember("two")
    assert served.last() == "two"


def test_what_a_home_remembers_is_one_small_file(tmp_path: Path):
    ServedStoreFile(tmp_path / "run" / "store-id").remember("one")

    assert [path.name for path in (tmp_path / "run").iterdir()] == ["store-id"]
    assert ServedStoreFile(tmp_path / "run" / "store-id").last() == "one"
