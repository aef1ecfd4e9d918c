"""Names, addresses and URLs of ha-tasks.toml."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ha_tasks.inventory import forms

GOOD = [
    (forms.name, ["web", "web-1", "Web_1", "a" * 63]),
    (forms.address, ["h:1", "10.0.0.5:65535", "[::1]:5432", "db.example.com:5432"]),
    (forms.web_url, ["http://h", "https://h:7100/x", "http://[::1]:80/"]),
    (forms.socket, ["tcp://h:8405", "unix:///run/haproxy.sock"]),
    (forms.store_url, ["sqlite:///ha.db", "sqlite:////var/ha.db", "postgresql+psycopg://u@h:1/d"]),
    (forms.broker_url, ["redis://h", "rediss://h:1/0", "amqp://u@h/v", "amqps://h"]),
]
BAD = [
    (forms.name, ["", "1web", "a b", "a" * 64, "a.b"]),
    (forms.address, ["h", "h:", ":1", "h:0", "h:65536", "h:x", "::1:5", "http://h:1", "h:\uff11"]),
    (forms.web_url, ["h:1", "ftp://h", "http://", "http://h:99999", "http://u:p@h", "http://u@h"]),
    (forms.socket, ["/run/x", "tcp://h", "tcp://h:1/x", "unix://run/x", "udp://h:1", "tcp://h:99999"]),
    (forms.store_url, ["ha.db", "sqlite:///", "postgresql://h/d", "postgresql+psycopg://h/", "mysql://h/d"]),
    (forms.broker_url, ["h:6379", "redis://", "kafka://h", "redis://h:99999"]),
]


@pytest.mark.parametrize(("form", "value"), [(form, value) for form, values in GOOD for value in values])
def test_what_is_well_formed_is_answered_as_it_is(form: Callable[[str], str], value: str):
    assert form(value) == value


@pytest.mark.parametrize(("form", "value"), [(form, value) for form, values in BAD for value in values])
def test_what_is_not_well_formed_is_told_with_its_mending_and_not_repeated(
    form: Callable[[str], str], value: str
):
    with pytest.raises(ValueError, match=r"\w") as caught:
        form(value)

    problem, mending = caught.value.args
    assert problem
    assert mending
    assert not value or f"{value} " not in f"{problem} "


@pytest.mark.parametrize(
    ("value", "host", "here"),
    [
        ("127.0.0.1:5", "127.0.0.1", True),
        ("127.8.0.1:5", "127.8.0.1", True),
        ("[::1]:5", "::1", True),
        ("http://localhost:1", "localhost", True),
        ("http://a.localhost", "a.localhost", True),
        ("http://10.0.0.1:1", "10.0.0.1", False),
        ("db.example.com:1", "db.example.com", False),
        ("http://h:99999", "", False),
    ],
)
def test_the_host_of_an_address_is_found_and_known_for_this_machine_or_not(value: str, host: str, here: bool):
    assert forms.host_of(value) == host
    assert forms.is_loopback(host) is here


@pytest.mark.parametrize(("value", "fits"), [("pg1", True), ("pg_1", True), ("pg-1", False), ("Pg1", False)])
def test_the_name_of_a_node_can_stand_unquoted_in_a_list_of_standbys(value: str, fits: bool):
    assert forms.postgres_name(value) is fits
