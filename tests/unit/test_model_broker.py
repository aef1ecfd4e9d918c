"""The address of the broker as one text."""

from __future__ import annotations

import pytest

from ha_tasks.model.broker import BrokerAddress, BrokerKind, broker_address


@pytest.mark.parametrize(
    ("text", "kind", "shown"),
    [
        ("redis://127.0.0.1/0", BrokerKind.REDIS, "127.0.0.1:6379"),
        ("rediss://u:p@cache:7000/1", BrokerKind.REDIS, "cache:7000"),
        ("amqp://u@a//;amqp://u@b:5673//", BrokerKind.AMQP, "a:5672, b:5673"),
        ("sentinel://s1/0?master_name=ha;sentinel://s2/0", BrokerKind.SENTINEL, "s1:26379, s2:26379"),
    ],
)
def test_an_address_says_how_the_broker_is_spoken_to_and_where_it_is(text, kind, shown) -> None:
    address = broker_address(text)

    assert (address.kind, address.shown) == (kind, shown)


@pytest.mark.parametrize(
    "address",
    [
        BrokerAddress(urls=("redis://h/0",)),
        BrokerAddress(urls=("amqp://u:p%2Fw@a/v", "amqp://u:p%2Fw@b/v")),
        BrokerAddress(
            urls=("sentinel://:a%26b@s1/0", "sentinel://:a%26b@s2/0"),
            master_name="ha",
            sentinel_password="x&y;z=1 ?",
        ),
    ],
)
def test_what_is_written_is_read_back(address) -> None:
    assert broker_address(address.text()) == address


def test_other_settings_of_the_query_stay_in_the_url() -> None:
    address = broker_address("rediss://h/0?ssl_cert_reqs=required&master_name=ha")

    assert address.urls == ("rediss://h/0?ssl_cert_reqs=required",)
    assert address.master_name == "ha"


def test_no_repr_shows_a_password() -> None:
    text = "sentinel://:hush@s1/0?master_name=ha&sentinel_password=hush"

    assert "hush" not in repr(broker_address(text))


@pytest.mark.parametrize("text", ["", "kafka://:hush@h", "redis://:hush@h;amqp://h", "no url"])
def test_what_is_no_address_is_refused_without_being_repeated(text) -> None:
    with pytest.raises(ValueError, match="one scheme of redis, rediss") as refused:
        broker_address(text)

    assert "hush" not in str(refused.value)
