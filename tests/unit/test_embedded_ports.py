"""Ports are nice when free, others when not, the same again later, and never two stacks' at once."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from ha_tasks.embedded.ports import DEFAULTS, TRIES, chosen, demanded
from ha_tasks.errors import UsageError

CORNER = {"broker": 21000, "cache": 21001, "web": 21002}
"""Defaults where no stack of this machine is."""


def choose(memory: Path, **demands: int) -> AbstractContextManager[dict[str, int]]:
    return chosen(memory, demands, CORNER)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 21000)):
        yield 21000


def test_free_defaults_are_taken(tmp_path: Path):
    with choose(tmp_path / "ports.json") as found:
        assert found == {"broker": 21000, "cache": 21001, "web": 21002}


@pytest.mark.usefixtures("taken")
def test_a_taken_default_gives_way_to_the_next_that_is_nobodys_default(tmp_path: Path):
    with choose(tmp_path / "ports.json") as found:
        assert found["broker"] == 21003


def test_a_later_start_chooses_the_same_ports(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 21000)), choose(tmp_path / "ports.json") as first:
        pass
    with choose(tmp_path / "ports.json") as again:
        assert again == first


def test_two_stacks_that_start_together_choose_different_ports(tmp_path: Path):
    with choose(tmp_path / "one.json") as one, choose(tmp_path / "two.json") as two:
        assert not set(one.values()) & set(two.values())


def test_a_demanded_port_is_obeyed(tmp_path: Path):
    with choose(tmp_path / "ports.json", web=21050) as found:
        assert found["web"] == 21050


def test_a_demanded_port_that_is_taken_is_an_error(tmp_path: Path, taken: int):
    with (
        pytest.raises(UsageError, match="port 21000, demanded for web, is taken"),
        choose(tmp_path / "ports.json", web=taken),
    ):
        pass


def test_a_damaged_memory_is_forgotten(tmp_path: Path):
    (tmp_path / "ports.json").write_text("{")

    with choose(tmp_path / "ports.json") as found:
        assert found["web"] == 21002


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"HA_DEMO_PORT_WEP": "8080"}, "HA_DEMO_PORT_WEP is no port of the demo"),
        ({"HA_DEMO_PORT_WEB": "http"}, "HA_DEMO_PORT_WEB must be a port number"),
        ({"HA_DEMO_PORT_WEB": "70000"}, "HA_DEMO_PORT_WEB must be a port number"),
    ],
)
def test_a_wrong_demand_is_said(environment: dict[str, str], complaint: str):
    with pytest.raises(UsageError, match=complaint):
        demanded(environment)


def test_demands_come_from_the_environment():
    assert demanded({"HA_DEMO_PORT_WEB": "6000", "PATH": "/bin"}) == {"web": 6000}


def test_no_default_is_handed_out_by_the_kernel_as_a_client_port():
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])

    assert max(DEFAULTS.values()) + TRIES < lowest
