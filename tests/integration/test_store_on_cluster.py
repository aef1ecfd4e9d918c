"""A store on the server that it recovers is found out by what that says, whatever address leads there."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from ha_tasks.bootstrap import System, assemble, load_inventory
from ha_tasks.cli.root import run
from ha_tasks.cli.store_checks import node_of_the_same_server, store_answers
from ha_tasks.ports.ledger import Worker
from ha_tasks.store.migration import revision_of
from tests.servers import PostgresServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """The one server of these tests."""
    server = PostgresServer(tmp_path_factory.mktemp("one server"))
    server.initialise()
    server.start()
    yield server
    server.stop()


def _relay(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def other_way(server: PostgresServer) -> Iterator[int]:
    """A port that leads to the server, as an address translation does: no name and no number shows it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()
        opened: list[socket.socket] = []

        def serve() -> None:
            while not ended.is_set():
                with suppress(OSError):
                    client, _ = listener.accept()
                    target = socket.create_connection(("127.0.0.1", server.port))
                    opened.extend((client, target))
                    for pair in ((client, target), (target, client)):
                        threading.Thread(target=_relay, args=pair, daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        ended.set()
        with closing(socket.create_connection(listener.getsockname())):
            thread.join(timeout=5)
        for each in opened:
            each.close()


def home_with(directory: Path, store: str, node: int) -> Path:
    """A home whose inventory protects one database at that port."""
    (directory / "ha-tasks.toml").write_text(f"""
schema = 1
[platform]
name = "shop"
[store]
{store}
[broker]
url = "redis://127.0.0.1:1/0"
[services.db]
kind = "postgres"
managed_by = "external"
[services.db.postgres]
database = "postgres"
user = "postgres"
[[services.db.instances]]
name = "pg1"
address = "127.0.0.1:{node}"
""")
    return directory


def system_of(home: Path) -> System:
    return assemble(load_inventory(home, {}), environ={"HA_TASKS_HOME": str(home)})


def test_the_servers_own_number_tells_what_addresses_hide(
    server: PostgresServer, other_way: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    url = server.create_database("hidden")
    home = home_with(tmp_path, f'url = "{url}"', other_way)

    assert run(["migrate", "--home", str(home)]) == 3

    assert "its server is the protected services.db.instances.pg1" in capsys.readouterr().err
    assert revision_of(url) is None


def test_who_insists_gets_a_store_there(
    server: PostgresServer, other_way: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    url = server.create_database("insisted")
    home = home_with(tmp_path, f'url = "{url}"\non_protected_cluster = true', other_way)

    assert run(["migrate", "--home", str(home)]) == 0

    assert "newest revision" in capsys.readouterr().out
    system = system_of(home)
    assert list(store_answers(system)) == []
    assert node_of_the_same_server(system) == "services.db.instances.pg1"
    system.store.dispose()


def test_check_says_it_of_a_store_that_came_there_before(
    server: PostgresServer, other_way: int, tmp_path: Path
):
    url = server.create_database("before")
    home = home_with(tmp_path, f'url = "{url}"', other_way)
    system = system_of(home)
    system.store.migrate()

    (answer,) = store_answers(system)

    system.store.dispose()
    assert not answer.ok
    assert "one system identifier" in answer.said


def test_a_store_that_is_held_and_one_file_for_two_machines_are_told(server: PostgresServer, tmp_path: Path):
    home = home_with(tmp_path, 'url = "sqlite:///ha.db"', server.port)
    system = system_of(home)
    system.store.migrate()
    system.store.identity.hold("the store is older than its agents; ha-tasks store approve")
    for host in ("alpha", "beta"):
        heartbeat = Worker(
            name=f"{host}/w1", kind="worker", queues=(), pid=1, heartbeat_at=system.clock.now()
        )
        system.store.ledger.heartbeat(heartbeat)

    said = [answer.said for answer in store_answers(system)]

    system.store.dispose()
    assert said == [
        "the store is older than its agents; ha-tasks store approve",
        "sqlite is for one host, and processes on alpha, beta use it",
    ]


def shown(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The result that a command has printed as JSON."""
    return json.loads(capsys.readouterr().out)


def test_the_command_line_shows_moves_and_approves_a_store(
    server: PostgresServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    home = home_with(tmp_path, 'url = "sqlite:///ha.db"', server.port)
    at_home = ("--home", str(home))
    target = server.create_database("moved")
    run(["migrate", *at_home])
    assert run(["store", "show", "--json", *at_home]) == 0
    capsys.readouterr()

    assert run(["migrate", "--to", target, *at_home]) == 0

    assert "were copied and counted" in capsys.readouterr().out
    assert run(["store", "show", "--json", *at_home]) == 3
    assert f"the store was copied to {target}" in shown(capsys)["reason"]
    assert run(["store", "approve", *at_home]) == 0
    capsys.readouterr()
    assert run(["store", "show", "--json", *at_home]) == 0
    assert shown(capsys)["trusted"] is True
    assert run(["store", "show", *at_home]) == 0
    assert "it is trusted" in capsys.readouterr().out
