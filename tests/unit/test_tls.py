"""TLS settings in the words of each driver, and what an inventory may say about them."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from ha_tasks.adapters.tls_errors import about_tls
from ha_tasks.inventory.loading import Reading, load, read
from ha_tasks.model.tls import Tls, amqp_options, mending, taken_out, with_query
from tests.tls_inventory import BROKER, STORE
from tests.unit.inventory_files import write_inventory

FULL = Tls(ca="/a b/ca.pem", certificate="/c.crt", key="/c.key")
POSTGRES = 'url = "postgresql+psycopg://ha@{}/ha"'


@pytest.mark.parametrize(
    "tls", [Tls(), FULL, Tls(ca="/ca.pem"), Tls(verify=False), Tls(ca="/ü;&.pem", verify=False)]
)
@pytest.mark.parametrize("url", ["rediss://u:p%2F@h:1/0", "amqps://u@h/v?heartbeat=3"])
def test_what_is_put_into_an_url_comes_out_again(url: str, tls: Tls) -> None:
    assert taken_out(with_query(url, tls.broker_query())) == (url, tls)


def test_an_url_of_plain_text_has_no_tls_and_stays_as_it_is() -> None:
    assert taken_out("redis://h/0?x=1") == ("redis://h/0?x=1", None)


def test_each_of_several_urls_is_verified_and_what_an_url_says_itself_wins() -> None:
    text = with_query("rediss://a/0?ssl_ca_certs=/own.pem;rediss://b/0", Tls(ca="/ca.pem").broker_query())

    first, second = (taken_out(url)[1] for url in text.split(";"))
    assert (first, second) == (Tls(ca="/own.pem"), Tls(ca="/ca.pem"))


@pytest.mark.parametrize(
    ("tls", "query"),
    [
        (Tls(), {"sslmode": "verify-full", "sslrootcert": "system"}),
        (Tls(ca="/ca.pem"), {"sslmode": "verify-full", "sslrootcert": "/ca.pem"}),
        (Tls(verify=False), {"sslmode": "require"}),
        (
            FULL,
            {"sslmode": "verify-full", "sslrootcert": "/a b/ca.pem", "sslcert": "/c.crt", "sslkey": "/c.key"},
        ),
    ],
)
def test_the_store_is_verified_by_authority_and_name(tls: Tls, query: dict[str, str]) -> None:
    assert tls.store_query() == query


def test_py_amqp_is_told_to_compare_the_name() -> None:
    assert amqp_options(Tls(), "mq") == {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": "mq"}
    assert amqp_options(Tls(verify=False), "mq") == {"cert_reqs": ssl.CERT_NONE}


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("SSL error: certificate verify failed", "is store.tls.ca the authority"),
        ('server certificate for "a" does not match host name "b"', "write that name in store.url"),
        ("certificate has expired", "renew the server's certificate"),
        ("tlsv13 alert certificate required", "store.tls.certificate and store.tls.key"),
        ("server does not support SSL, but SSL was required", "nobody speaks TLS there"),
        ('no pg_hba.conf entry for host "h", no encryption', "add [store.tls]"),
        ("connection refused", ""),
    ],
)
def test_a_refusal_says_what_mends_it(said: str, remedy: str) -> None:
    assert (remedy in mending(said, "store")) if remedy else mending(said, "store") == ""


def test_an_error_is_searched_for_openssls_reason_and_nothing_else_is_repeated() -> None:
    refused = ssl.SSLCertVerificationError(1, "[SSL] AUTH secret-word")
    refused.verify_message = "self-signed certificate in certificate chain"
    outer = ConnectionError("AUTH secret-word")
    outer.__cause__ = refused

    told = about_tls(outer, "broker")
    assert told.startswith("TLS: self-signed certificate in certificate chain; is broker.tls.ca")
    assert "secret-word" not in told
    assert about_tls(ConnectionError(refused), "broker") == told
    assert about_tls(ConnectionError("refused"), "broker") == ""


def reading(directory: Path, section: str, text: str) -> Reading:
    (directory / "ca.pem").write_text("a certificate")
    (directory / "closed.key").write_text("a key")
    (directory / "closed.key").chmod(0o600)
    (directory / "open.key").write_text("a key")
    (directory / "open.key").chmod(0o644)
    return read(write_inventory(directory, (BROKER if section == "broker" else STORE, text)), {})


@pytest.mark.parametrize(
    ("section", "text", "key", "said"),
    [
        ("store", f"{STORE}\ntls = {{}}", "store.tls", "sqlite is a file"),
        ("broker", f"{BROKER}\ntls = {{}}", "broker.tls", "rediss:// or amqps://"),
        (
            "broker",
            'url = "rediss://h/0"\ntls = { ca = "none.pem" }',
            "broker.tls.ca",
            "none.pem does not exist",
        ),
        ("broker", 'url = "rediss://h/0"\ntls = { key = "closed.key" }', "broker.tls", "belong together"),
        (
            "store",
            f'{POSTGRES.format("h")}\ntls = {{ certificate = "ca.pem", key = "open.key" }}',
            "store.tls.key",
            "is open to others (mode 0644); chmod 0600",
        ),
        ("broker", 'url = "rediss://h/0"\ntls = { cafile = "x" }', "broker.tls.cafile", "ca"),
    ],
)
def test_tls_that_cannot_be_is_a_fault(tmp_path: Path, section: str, text: str, key: str, said: str) -> None:
    faults = reading(tmp_path, section, text).faults

    assert [fault.key for fault in faults] == [key]
    assert said in str(faults[0])


@pytest.mark.parametrize(
    ("section", "text", "key"),
    [
        ("broker", 'url = "redis://mq.example.org/0"', "broker.url"),
        ("store", POSTGRES.format("store.example.org"), "store.url"),
        ("broker", 'url = "rediss://mq.example.org/0"\ntls = { verify = false }', "broker.tls.verify"),
        ("broker", 'url = "redis://127.0.0.1/0"', None),
        ("broker", 'url = "rediss://mq.example.org/0"', None),
        ("store", f'{POSTGRES.format("store.example.org")}\ntls = {{ ca = "ca.pem" }}', None),
    ],
)
def test_what_travels_in_clear_to_another_machine_is_a_warning(
    tmp_path: Path, section: str, text: str, key: str | None
) -> None:
    found = reading(tmp_path, section, text)

    assert found.faults == ()
    assert [warning.key for warning in found.warnings] == ([key] if key else [])


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ("store", 'url = "postgresql+psycopg://u@h/d?password=hush"'),
        ("store", 'url = "postgresql+psycopg://u@h/d?sslmode=require&sslpassword=hush"'),
        ("broker", 'url = "redis://h/0?password=hush"'),
    ],
)
def test_a_secret_in_a_query_is_a_fault_that_does_not_repeat_it(
    tmp_path: Path, section: str, text: str
) -> None:
    faults = reading(tmp_path, section, text).faults

    assert [fault.key for fault in faults] == [f"{section}.url"]
    assert "hush" not in str(faults)


def test_every_url_of_a_list_is_verified(tmp_path: Path) -> None:
    inventory = reading(tmp_path, "broker", 'url = ["rediss://a:1/0", "rediss://b:1/0"]').inventory
    assert inventory is not None

    assert [taken_out(url)[1] for url in inventory.broker_url().split(";")] == [Tls(), Tls()]


def test_paths_count_from_the_directory_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("a certificate")
    path = write_inventory(
        tmp_path,
        (BROKER, 'url = "rediss://mq:6379/0"\ntls = { ca = "ca.pem" }'),
        (STORE, f'{POSTGRES.format("s")}\ntls = {{ ca = "ca.pem" }}'),
    )

    inventory = load(path, {})
    assert taken_out(inventory.broker_url()) == ("rediss://mq:6379/0", Tls(ca=str(tmp_path / "ca.pem")))
    assert inventory.store_url().endswith(f"?sslmode=verify-full&sslrootcert={tmp_path}/ca.pem")
