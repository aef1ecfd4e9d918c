"""One contract for PostgreSQL seen by SQL: the fake, and a real primary with its standby."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import psycopg
import pytest

from ha_tasks.adapters.clock import SYSTEM_CLOCK
from ha_tasks.adapters.postgres import SqlPostgresControl
from ha_tasks.adapters.postgres_depth import PostgresDepth
from ha_tasks.errors import ActionFailed, InventoryError, ServiceUnreachable, UsageError
from ha_tasks.model.platform import Instance, ManagedBy, Service
from ha_tasks.model.switchover import Transaction
from ha_tasks.ports.postgres import PostgresControl
from tests.fakes.postgres import FakeNode, FakePostgresControl
from tests.postgres_pair import PASSWORD, USER, PostgresPair, password, running_pair
from tests.scripted_server import hang, scripted
from tests.servers import free_port


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresPair]:
    with running_pair(tmp_path_factory.mktemp("pair")) as started:
        yield started


@dataclass
class Scene:
    """A cluster of the primary pg1 and its standby pg2."""

    control: PostgresControl
    service: Service

    @property
    def primary(self) -> Instance:
        return self.service.instance("pg1")

    @property
    def standby(self) -> Instance:
        return self.service.instance("pg2")

    def write(self, token: str, entry: str | None = None) -> str:
        return self.control.write_canary(self.service, entry or self.primary.address, token, 2.0)


def _fake(pair: PostgresPair) -> PostgresControl:
    service = pair.service
    entries = {instance.address: instance.name for instance in service.instances}
    nodes = {"pg1": FakeNode(primary=True, standbys={"pg2": 0x4000000}), "pg2": FakeNode()}
    return FakePostgresControl(nodes, dict(entries))


@pytest.fixture(params=["fake", "real"])
def scene(request: pytest.FixtureRequest, pair: PostgresPair) -> Scene:
    real = SqlPostgresControl(password=password, timeout_s=1.0)
    return Scene(control=_fake(pair) if request.param == "fake" else real, service=pair.service)


def test_a_write_moves_the_flush_position(scene: Scene) -> None:
    before = scene.control.flush_lsn(scene.service, scene.primary)
    scene.write("moves")

    assert scene.control.flush_lsn(scene.service, scene.primary) > before > 0


def test_a_standby_has_no_flush_position_of_a_primary(scene: Scene) -> None:
    with pytest.raises(ServiceUnreachable):
        scene.control.flush_lsn(scene.service, scene.standby)


def test_the_standby_streams(scene: Scene) -> None:
    assert scene.control.streaming(scene.service, scene.primary) == {"pg2"}


def test_the_standby_receives(scene: Scene) -> None:
    assert scene.control.receiving(scene.service, scene.primary) == {"pg2"}
    assert scene.control.receiving(scene.service, scene.standby) == frozenset()


def test_a_primary_that_waits_for_nobody_has_an_empty_setting(scene: Scene) -> None:
    assert scene.control.sync_setting(scene.service, scene.primary) == ""


def test_nobody_streams_from_a_standby(scene: Scene) -> None:
    assert scene.control.streaming(scene.service, scene.standby) == frozenset()


def test_the_standby_flushes_what_was_written(scene: Scene) -> None:
    scene.write("flushed")
    lsn = scene.control.flush_lsn(scene.service, scene.primary)
    deadline = time.monotonic() + 5
    while "pg2" not in scene.control.flushed_past(scene.service, scene.primary, lsn):
        assert time.monotonic() < deadline
        time.sleep(0.01)

    assert scene.control.flushed_past(scene.service, scene.primary, lsn + (1 << 40)) == frozenset()


def test_a_server_and_its_standby_share_their_system_identifier(scene: Scene) -> None:
    identifiers = {scene.control.system_identifier(scene.service, i) for i in (scene.primary, scene.standby)}

    assert len(identifiers) == 1
    assert "" not in identifiers


def test_a_reading_says_who_feeds_whom_how_far_and_by_which_settings(scene: Scene) -> None:
    primary = scene.control.reading(scene.service, scene.primary)
    standby = scene.control.reading(scene.service, scene.standby)

    assert (primary.in_recovery, standby.in_recovery) == (False, True)
    assert [(s.name, s.state) for s in primary.senders] == [("pg2", "streaming")]
    assert standby.receiver is not None
    assert (standby.receiver.status, standby.receiver.upstream) == ("streaming", scene.primary.address)
    assert (standby.receiver.silent_s or 0.0) < 30
    assert primary.system_identifier == standby.system_identifier
    assert primary.timeline == standby.timeline == 1
    assert primary.lsn > 0 < standby.lsn
    assert primary.version >= 150000
    assert primary.settings["synchronous_commit"] == "on"
    assert (primary.lacking, primary.weakened, primary.pending_restart) == ((), (), ())


def test_a_checkpoint_may_be_taken_twice(scene: Scene) -> None:
    scene.control.checkpoint(scene.service, scene.primary)
    scene.control.checkpoint(scene.service, scene.primary)


def test_the_node_that_took_the_canary_is_named_each_time(scene: Scene) -> None:
    assert [scene.write("same"), scene.write("same"), scene.write("other")] == ["pg1"] * 3


def test_a_standby_behind_the_entry_takes_no_canary(scene: Scene) -> None:
    with pytest.raises(ServiceUnreachable):
        scene.write("nowhere", scene.standby.address)


def test_nobody_behind_the_entry_is_unreachable(scene: Scene) -> None:
    with pytest.raises(ServiceUnreachable):
        scene.write("nowhere", f"127.0.0.1:{free_port()}")


# What only a real server can show.


@pytest.fixture
def real(pair: PostgresPair) -> Scene:
    return Scene(control=SqlPostgresControl(password=password, timeout_s=0.3), service=pair.service)


def test_an_ended_wal_sender_comes_back_by_itself(real: Scene, pair: PostgresPair) -> None:
    with psycopg.connect(pair.primary.dsn(), autocommit=True) as watching:
        before = watching.execute("SELECT pid FROM pg_stat_replication").fetchall()

        real.control.end_walsenders(real.service, real.primary, ["PG2", "pg3"])

        old = [pid for (pid,) in before]
        left = watching.execute("SELECT pid FROM pg_stat_activity WHERE pid = ANY(%s)", (old,)).fetchall()
        assert left == []
        pair.await_streaming()
        assert watching.execute("SELECT pid FROM pg_stat_replication").fetchall() != before


@pytest.mark.parametrize("_", range(12))
def test_the_first_canaries_may_be_written_at_the_same_moment(
    real: Scene, pair: PostgresPair, _: int
) -> None:
    """The sessions collide at the schema, the table's name, its type or a catalog's index, by luck."""
    pair.primary.execute("DROP SCHEMA IF EXISTS ha CASCADE", "app")
    pair.primary.execute(f"GRANT CREATE ON DATABASE app TO {USER}")
    together, nodes = threading.Barrier(4), []

    def write(token: str) -> None:
        together.wait(5)
        nodes.append(real.write(token))

    threads = [threading.Thread(target=write, args=(f"first-{no}",)) for no in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert nodes == ["pg1"] * 4


def test_canaries_of_long_ago_are_forgotten(real: Scene, pair: PostgresPair) -> None:
    real.write("old")
    pair.primary.execute("UPDATE ha.canary SET written_at = now() - interval '2 hours'", "app")

    real.write("new")

    with psycopg.connect(pair.primary.dsn("app")) as connection:
        assert connection.execute("SELECT token FROM ha.canary").fetchall() == [("new",)]


def test_a_missing_right_is_for_a_person_to_mend(real: Scene, pair: PostgresPair) -> None:
    pair.primary.execute(f"REVOKE pg_checkpoint FROM {USER}")
    try:
        with pytest.raises(ActionFailed, match="permission denied"):
            real.control.checkpoint(real.service, real.primary)
    finally:
        pair.primary.execute(f"GRANT pg_checkpoint TO {USER}")


def test_a_wrong_password_is_told_without_the_password(pair: PostgresPair) -> None:
    control = SqlPostgresControl(password=lambda _: "a wrong one")
    with pytest.raises(ServiceUnreachable, match="password authentication failed") as caught:
        control.streaming(pair.service, pair.service.instance("pg1"))

    assert "a wrong one" not in f"{caught.value!r} {vars(control)!r}"
    assert PASSWORD not in repr(vars(SqlPostgresControl(password=password)))


def test_a_silent_server_is_given_up_by_the_deadline(real: Scene) -> None:
    with scripted(hang) as silent:
        node = replace(real.primary, address=silent)
        begun = time.monotonic()
        with pytest.raises(ServiceUnreachable):
            real.control.streaming(real.service, node)
        assert time.monotonic() - begun < 0.5


def test_a_service_that_is_no_database_is_an_error_of_usage(real: Scene) -> None:
    bare = replace(real.service, postgres=None)

    with pytest.raises(UsageError, match="db is no PostgreSQL service"):
        real.control.streaming(bare, real.primary)


def test_a_transaction_is_named_only_once_it_is_old_enough(scene: Scene, pair: PostgresPair) -> None:
    with psycopg.connect(pair.primary.dsn(), application_name="an old report") as connection:
        connection.execute("SELECT 1")
        if isinstance(scene.control, FakePostgresControl):
            seen = Transaction(pid=7, user="app", application="an old report", age_s=0.3)
            scene.control.nodes["pg1"].transactions.append(seen)
        time.sleep(0.25)
        old = scene.control.transactions(scene.service, scene.primary, 0.2)
        older = scene.control.transactions(scene.service, scene.primary, 60.0)

    assert [t.application for t in old] == ["an old report"]
    assert old[0].age_s > 0.2
    assert older == ()


def test_from_inside_a_cluster_is_well_and_its_row_is_read_back(pair: PostgresPair) -> None:
    found = _depth().examine(pair.service, 2.0)

    assert {(each.subject, each.check) for each in found} == {
        ("db", "canary"),
        *((f"db/{node}", check) for node in ("pg1", "pg2") for check in ("connections", "transaction ids")),
    }
    assert all(each.well for each in found), found
    canary = next(each for each in found if each.check == "canary")
    assert canary.facts["node"] == "pg1"


def test_from_inside_a_standby_as_the_entry_and_a_silent_node_are_told(pair: PostgresPair) -> None:
    service, routing = pair.service, pair.service.routing
    assert routing is not None
    wrong = replace(routing, entry=service.instance("pg2").address)
    silent = replace(service.instance("pg2"), address=f"127.0.0.1:{free_port()}")
    begun = time.monotonic()

    found = _depth().examine(
        replace(service, routing=wrong, instances=(service.instance("pg1"), silent)), 1.0
    )

    assert time.monotonic() - begun < 1.5
    ill = {each.subject: each for each in found if not each.well}
    assert ill.keys() == {"db", "db/pg2"}
    assert (ill["db"].check, ill["db"].score) == ("canary", 0.0)
    assert "read-only" in ill["db"].problem
    assert (ill["db/pg2"].check, ill["db/pg2"].score) == ("sessions", 0.5)
    assert PASSWORD not in repr(found)


def test_from_inside_a_cluster_of_others_is_asked_and_not_written_to(pair: PostgresPair) -> None:
    theirs = replace(pair.service, managed_by=ManagedBy.EXTERNAL)

    assert "canary" not in {each.check for each in _depth().examine(theirs, 2.0)}


def _depth() -> PostgresDepth:
    control = SqlPostgresControl(password=password, timeout_s=1.0)
    return PostgresDepth(control=control, password=password, clock=SYSTEM_CLOCK)


def test_from_inside_a_password_that_cannot_be_read_is_told(pair: PostgresPair) -> None:
    def lost(_: Service) -> str:
        raise InventoryError("services.db.postgres.password: secrets/db does not exist")

    control = SqlPostgresControl(password=lost, timeout_s=1.0)
    found = PostgresDepth(control=control, password=lost, clock=SYSTEM_CLOCK).examine(pair.service, 1.0)

    assert {each.subject for each in found} == {"db", "db/pg1", "db/pg2"}
    assert all("secrets/db does not exist" in each.problem for each in found)
