"""One contract for poolers: the fake, and a real pgbouncer in front of a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

import psycopg
import pytest

from ha_tasks.adapters.pgbouncer import PgbouncerControl
from ha_tasks.errors import PassingFailure, PoolerError, PoolerUnreachable
from ha_tasks.model.platform import PoolerSettings, Service
from ha_tasks.ports.pooler import PoolerControl
from tests.fakes.pooler import FakePooler
from tests.pgbouncer_server import ADMIN, ADMIN_PASSWORD, PgbouncerServer, pgbouncer
from tests.postgres_pair import PASSWORD, USER, PostgresPair, running_pair
from tests.scripted_server import hang, scripted
from tests.servers import free_port
from tests.unit.builders import database


@pytest.fixture(scope="module")
def bouncer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PgbouncerServer, PostgresPair]]:
    home = tmp_path_factory.mktemp("pooler")
    home.chmod(0o755)
    with (
        running_pair(home) as pair,
        pgbouncer(home / "pgbouncer", upstream=pair.primary.port, users={USER: PASSWORD}) as server,
    ):
        yield server, pair


@dataclass
class Scene:
    """A pooler and the service before which it stands."""

    pooler: PoolerControl
    service: Service
    server: PgbouncerServer | None = None

    def client(self, *, autocommit: bool = True) -> psycopg.Connection:
        assert self.server is not None
        dsn = f"host=127.0.0.1 port={self.server.port} user={USER} dbname=app connect_timeout=5"
        return psycopg.connect(dsn, password=PASSWORD, autocommit=autocommit, prepare_threshold=None)


def settings(address: str) -> PoolerSettings:
    return PoolerSettings(addresses=(address,), user=ADMIN, database="app")


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.needs("pgbouncer"))])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    if request.param == "fake":
        yield Scene(FakePooler(), replace(database(), pooler=settings("127.0.0.1:6432")))
        return
    server, _ = request.getfixturevalue("bouncer")
    made = Scene(real(), replace(database(), pooler=settings(server.address)), server)
    yield made
    made.pooler.resume(made.service)


def real(password: str = ADMIN_PASSWORD) -> PgbouncerControl:
    return PgbouncerControl(password=lambda _: password, timeout_s=1.0)


def test_what_is_paused_is_resumed_and_either_may_be_said_twice(scene: Scene) -> None:
    seen = [scene.pooler.is_paused(scene.service)]
    for verb in ("pause", "pause", "resume", "resume"):
        if verb == "pause":
            scene.pooler.pause(scene.service, 2.0)
        else:
            scene.pooler.resume(scene.service)
        seen.append(scene.pooler.is_paused(scene.service))

    assert seen == [False, True, True, False, False]


def test_a_pause_that_a_transaction_holds_up_is_called_off(scene: Scene) -> None:
    if isinstance(scene.pooler, FakePooler):
        scene.pooler.busy = True
        with pytest.raises(PassingFailure):
            scene.pooler.pause(scene.service, 0.3)
    else:
        with scene.client(autocommit=False) as client:
            client.execute("SELECT 1")
            with pytest.raises(PassingFailure, match=r"still had a transaction under way after 0\.3 s"):
                scene.pooler.pause(scene.service, 0.3)
            client.execute("SELECT 2")

    assert scene.pooler.is_paused(scene.service) is False


def test_an_unknown_database_is_refused(scene: Scene) -> None:
    assert scene.service.pooler is not None
    other = replace(scene.service, pooler=replace(scene.service.pooler, database="nobodys"))

    with pytest.raises(PoolerError, match="no such database"):
        scene.pooler.pause(other, 1.0)


def test_a_service_without_a_pooler_has_nothing_done(scene: Scene) -> None:
    plain = replace(scene.service, pooler=None)
    scene.pooler.pause(plain, 1.0)
    scene.pooler.resume(plain)
    scene.pooler.reconnect(plain)

    assert scene.pooler.is_paused(plain) is False


def test_nobody_at_the_console_is_unreachable(scene: Scene) -> None:
    if isinstance(scene.pooler, FakePooler):
        scene.pooler.reachable = False
    away = replace(scene.service, pooler=settings(f"127.0.0.1:{free_port()}"))

    with pytest.raises(PoolerUnreachable):
        scene.pooler.pause(away, 1.0)
    with pytest.raises(PoolerUnreachable):
        scene.pooler.resume(away)


# What only the real one can show.


@pytest.fixture
def there(request: pytest.FixtureRequest) -> Iterator[Scene]:
    server, _ = request.getfixturevalue("bouncer")
    made = Scene(real(), replace(database(), pooler=settings(server.address)), server)
    yield made
    made.pooler.resume(made.service)


@pytest.mark.needs("pgbouncer")
def test_a_client_waits_while_it_is_paused_and_sees_no_error(there: Scene) -> None:
    answers = []
    with there.client() as client:
        client.execute("SELECT 1")
        there.pooler.pause(there.service, 2.0)
        asking = threading.Thread(target=lambda: answers.append(client.execute("SELECT 42").fetchone()))
        asking.start()
        asking.join(0.3)
        waited = asking.is_alive()
        there.pooler.resume(there.service)
        asking.join(5)

    assert waited
    assert answers == [(42,)]


@pytest.mark.needs("pgbouncer")
def test_a_reconnect_replaces_the_connection_to_the_server(there: Scene) -> None:
    with there.client() as client:
        before = client.execute("SELECT pg_backend_pid()").fetchone()
        there.pooler.reconnect(there.service)
        after = client.execute("SELECT pg_backend_pid()").fetchone()

    assert before != after


@pytest.mark.needs("pgbouncer")
def test_a_wrong_password_is_refused_and_never_told(there: Scene) -> None:
    with pytest.raises(PoolerError) as told:
        real("not this one").pause(there.service, 1.0)

    assert "not this one" not in str(told.value)


def test_a_silent_console_is_given_up_by_the_deadline() -> None:
    with scripted(hang) as address:
        silent = replace(database(), pooler=settings(address))
        with pytest.raises(PoolerUnreachable):
            real().resume(silent)
