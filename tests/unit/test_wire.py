"""Addresses of servers."""

from __future__ import annotations

import pytest

from ha_tasks.adapters.wire import parse_address


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("tcp://127.0.0.1:8405", ("127.0.0.1", 8405)),
        ("[::1]:80", ("::1", 80)),
        ("db.example.org:5432", ("db.example.org", 5432)),
    ],
)
def test_an_address_is_host_and_port(address: str, expected: tuple[str, int]) -> None:
    assert parse_address(address) == expected


@pytest.mark.parametrize("address", ["", "127.0.0.1", ":80", "host:", "host:port", "host:-1"])
def test_anything_else_is_no_address(address: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        parse_address(address)
