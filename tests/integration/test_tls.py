"""TLS to broker and store, on real servers: the right authority opens, everything else is refused."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import kombu.exceptions
import psycopg
import pytest

from ha_tasks.embedded.unprivileged import choose, give
from ha_tasks.errors import BrokerUnreachable, StoreUnreachable
from ha_tasks.inventory import Inventory
from ha_tasks.store import Store
from ha_tasks.store.engine import open_engine
from tests.certificates import HERE, Authority, Pair
from tests.servers import QUICK, PostgresServer, free_port
from tests.tls_inventory import (
    ANOTHER_CA,
    ANOTHER_NAME,
    await_port,
    look,
    refusal,
    send,
    with_broker,
    with_store,
)
from tests.valkey_server import valkey_server

PASSWORD = "pass-for-this-test-only"
DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


@contextmanager
def tls_redis(home: Path, authority: Authority, pair: Pair, clients: str = "no") -> Iterator[int]:
    """Debian's redis-server with a TLS port and no other; ``clients``: whether it asks for certificates."""
    home.mkdir()
    port, conf = free_port(), home / "redis.conf"
    conf.write_text(
        f'bind 127.0.0.1\nport 0\ntls-port {port}\nsave ""\ndir "{home}"\nrequirepass {PASSWORD}\n'
        f'tls-cert-file "{pair.certificate}"\ntls-key-file "{pair.key}"\ntls-ca-cert-file "{authority.pem}"\n'
        f"tls-auth-clients {clients}\n"
    )
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    server = subprocess.Popen([shutil.which("redis-server") or "redis-server", conf], **quiet)
    try:
        await_port(port)
        yield port
    finally:
        server.kill()
        server.wait(5)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[int]:
    home = tmp_path_factory.mktemp("tls") / "redis"
    with tls_redis(home, authority, authority.issue("here", *HERE)) as port:
        yield port


@pytest.mark.needs("redis-server", "openssl")
def test_with_the_right_authority_messages_travel_encrypted(
    tmp_path: Path, broker: int, authority: Authority
) -> None:
    inventory = with_broker(
        tmp_path, f"rediss://127.0.0.1:{broker}/0", password=PASSWORD, tls=f'ca = "{authority.pem}"'
    )
    before = look(inventory)
    send(inventory)

    assert look(inventory) == before + 1
    assert PASSWORD not in repr(inventory)


@pytest.mark.needs("redis-server", "openssl")
def test_an_authority_that_did_not_sign_it_is_refused_by_reader_and_sender(
    tmp_path: Path, broker: int, stranger: Authority
) -> None:
    inventory = with_broker(
        tmp_path, f"rediss://127.0.0.1:{broker}/0", password=PASSWORD, tls=f'ca = "{stranger.pem}"'
    )

    said = refusal(inventory)
    with pytest.raises(kombu.exceptions.OperationalError, match="certificate verify failed"):
        send(inventory)

    assert ANOTHER_CA.format("broker") in said
    assert PASSWORD not in said


@pytest.mark.needs("redis-server", "openssl")
def test_without_a_word_about_tls_a_server_of_unknown_authority_is_refused(
    tmp_path: Path, broker: int
) -> None:
    """Kombu by itself would not look at the certificate of a ``rediss`` URL at all."""
    inventory = with_broker(tmp_path, f"rediss://127.0.0.1:{broker}/0", password=PASSWORD)

    assert ANOTHER_CA.format("broker") in refusal(inventory)
    with pytest.raises(kombu.exceptions.OperationalError, match="certificate verify failed"):
        send(inventory)


@pytest.mark.needs("redis-server", "openssl")
def test_a_certificate_for_another_name_is_refused(tmp_path: Path, authority: Authority) -> None:
    pair = authority.issue("elsewhere", "DNS:broker.example.org")
    with tls_redis(tmp_path / "redis", authority, pair) as port:
        inventory = with_broker(
            tmp_path / "home",
            f"rediss://127.0.0.1:{port}/0",
            password=PASSWORD,
            tls=f'ca = "{authority.pem}"',
        )

        assert ANOTHER_NAME.format("broker") in refusal(inventory)
        with pytest.raises(kombu.exceptions.OperationalError, match=r"[Mm]ismatch|not valid for"):
            send(inventory)


@pytest.mark.needs("redis-server", "openssl")
def test_plain_text_is_refused_where_the_broker_demands_tls(tmp_path: Path, broker: int) -> None:
    inventory = with_broker(tmp_path, f"redis://127.0.0.1:{broker}/0", password=PASSWORD)

    with pytest.raises(BrokerUnreachable):
        look(inventory)
    with pytest.raises(kombu.exceptions.OperationalError):
        send(inventory)


@pytest.mark.needs("openssl")
def test_a_broker_without_tls_is_not_spoken_to_in_plain_text_instead(
    tmp_path: Path, authority: Authority
) -> None:
    with valkey_server(tmp_path) as plain:
        inventory = with_broker(
            tmp_path / "home",
            f"rediss://127.0.0.1:{plain.port}/0",
            password=PASSWORD,
            tls=f'ca = "{authority.pem}"',
        )

        with pytest.raises(BrokerUnreachable):
            look(inventory)
        with plain.client() as client:
            assert client.llen("recovery") == 0


@pytest.mark.needs("redis-server", "openssl")
def test_a_broker_that_wants_a_certificate_of_ours_gets_it(tmp_path: Path, authority: Authority) -> None:
    server, ours = authority.issue("strict", *HERE), authority.issue("control-plane")
    with tls_redis(tmp_path / "redis", authority, server, clients="yes") as port:
        url, ca = f"rediss://127.0.0.1:{port}/0", f'ca = "{authority.pem}"'
        shown = f'{ca}, certificate = "{ours.certificate}", key = "{ours.key}"'
        with_ours = with_broker(tmp_path / "with", url, password=PASSWORD, tls=shown)
        without = with_broker(tmp_path / "without", url, password=PASSWORD, tls=ca)
        send(with_ours)

        assert look(with_ours) == 1
        with pytest.raises(BrokerUnreachable):
            look(without)


class TlsPostgres(PostgresServer):
    """Debian's PostgreSQL (the wheel's knows no TLS), which takes sessions over TLS only."""

    def _command(self, program: str, *arguments: str) -> list[str]:
        return [*choose(0).prefix, str(DEBIAN[-1].parent / program), *arguments]


@contextmanager
def tls_postgres(home: Path, pair: Pair) -> Iterator[TlsPostgres]:
    way, key = choose(0), home / "server.key"
    home.mkdir(mode=0o755)
    key.write_bytes(pair.key.read_bytes())
    key.chmod(0o600)
    for path in (home, key):
        give(path, way)
    files = {"ssl": "on", "ssl_cert_file": str(pair.certificate), "ssl_key_file": str(key)}
    server = TlsPostgres(home, {**QUICK, **files})
    server.initialise()
    (server.data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 trust\n")
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[TlsPostgres]:
    home = tmp_path_factory.mktemp("tls") / "postgres"
    with tls_postgres(home, authority.issue("store", *HERE)) as server:
        yield server


def open_store(inventory: Inventory) -> str:
    """Migrates and says the TLS version of a session of ours."""
    made = Store(inventory.store_url())
    try:
        made.migrate()
    finally:
        made.dispose()
    engine = open_engine(inventory.store_url())
    try:
        with engine.connect() as connection:
            sql = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            return str(connection.exec_driver_sql(sql).scalar())
    finally:
        engine.dispose()


@pytest.mark.needs("postgresql", "openssl")
def test_the_store_is_reached_over_tls_when_authority_and_name_are_right(
    tmp_path: Path, store: TlsPostgres, authority: Authority
) -> None:
    assert open_store(with_store(tmp_path, store.url(), tls=f'ca = "{authority.pem}"')).startswith("TLSv1.")


@pytest.mark.needs("postgresql", "openssl")
@pytest.mark.parametrize("said", ["", "verify = true"])
def test_a_store_of_an_authority_that_nobody_named_is_refused(
    tmp_path: Path, store: TlsPostgres, stranger: Authority, said: str
) -> None:
    tls = said or f'ca = "{stranger.pem}"'

    with pytest.raises(StoreUnreachable, match=ANOTHER_CA.format("store")):
        open_store(with_store(tmp_path, store.url(), tls=tls))


@pytest.mark.needs("postgresql", "openssl")
def test_a_store_whose_certificate_bears_another_name_is_refused(
    tmp_path: Path, authority: Authority
) -> None:
    pair = authority.issue("other-store", "DNS:store.example.org")
    with tls_postgres(tmp_path / "postgres", pair) as server:
        inventory = with_store(tmp_path / "home", server.url(), tls=f'ca = "{authority.pem}"')

        with pytest.raises(StoreUnreachable, match=ANOTHER_NAME.format("store")):
            open_store(inventory)


@pytest.mark.needs("postgresql", "openssl")
def test_plain_text_is_refused_where_the_store_demands_tls(tmp_path: Path, store: TlsPostgres) -> None:
    inventory = with_store(tmp_path, f"{store.url()}?sslmode=disable")

    with pytest.raises(StoreUnreachable, match=r"the server demands TLS: add \[store\.tls\]"):
        open_store(inventory)


def test_a_store_without_tls_is_not_spoken_to_in_plain_text_instead(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path)
    server.initialise()
    server.start()
    try:
        inventory = with_store(tmp_path / "home", server.url(), tls="verify = true")
        with pytest.raises(StoreUnreachable, match="nobody speaks TLS there"):
            open_store(inventory)
        with psycopg.connect(server.dsn()) as plain:
            assert plain.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone() == (
                False,
            )
    finally:
        server.stop()
