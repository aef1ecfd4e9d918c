"""``ha-tasks doctor`` asks the broker of the inventory, real ones here, whether it is set to lose nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ha_tasks.cli.root import run
from ha_tasks.embedded.doctor import examine_broker
from ha_tasks.model.broker import broker_address
from ha_tasks.tasks.connection import BrokerConnection
from ha_tasks.tasks.redis_transport import judged
from tests.rabbitmq_server import RabbitmqServer
from tests.servers import free_port
from tests.unit.inventory_files import write_inventory
from tests.valkey_server import PASSWORD, valkey_server


def wrong(url: str) -> dict[str, str]:
    """What is not right -> the line that mends it."""
    rows = examine_broker(broker_address(url))
    assert PASSWORD not in str(rows)
    return {row.what: row.remedy for row in rows if not row.ok}


def test_a_valkey_with_its_append_only_file_is_right(tmp_path: Path) -> None:
    with valkey_server(tmp_path, durable=True) as server:
        assert wrong(server.secret_url) == {}


def test_a_valkey_that_forgets_or_evicts_is_told_how_to_be_mended(tmp_path: Path) -> None:
    with valkey_server(tmp_path) as server:
        with server.client() as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
        found = wrong(server.secret_url)
        with server.client() as client:
            _mended(client, found)
        left = wrong(server.secret_url)

    assert set(found) == {"broker eviction", "broker persistence"}
    assert left == {}


def _mended(client: object, found: dict[str, str]) -> None:
    """By the very lines that the report names."""
    for remedy in found.values():
        command = remedy.partition("(now: ")[2].rstrip(")")
        client.execute_command(*command.split())  # type: ignore[attr-defined]


def test_a_user_that_may_not_ask_is_told_so(tmp_path: Path) -> None:
    with valkey_server(tmp_path, durable=True) as server:
        with server.client() as client:
            rights = ("~*", "&*", "+@all", "-config", "-info")
            client.execute_command("ACL", "SETUSER", "ha", "on", f">{PASSWORD}", *rights)
        found = wrong(server.secret_url.replace("//:", "//ha:"))

    assert "may not be asked by this user" in found["broker persistence"]


def test_a_broker_that_is_away_is_one_row(tmp_path: Path) -> None:
    found = wrong(f"redis://:{PASSWORD}@127.0.0.1:{free_port()}/0")

    assert list(found) == ["broker"]
    assert "start it, or mend [broker]" in found["broker"]


@pytest.mark.needs("rabbitmq")
def test_a_rabbitmq_is_asked_for_quorum_queues(rabbitmq: RabbitmqServer) -> None:
    rows = examine_broker(broker_address(rabbitmq.secret_url))

    assert [row.what for row in rows] == ["broker version", "broker user", "broker queues"]
    assert all(row.ok for row in rows), rows


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose broker keeps nothing, and in which junk was put aside."""
    made = tmp_path / "home"
    made.mkdir()
    (tmp_path / "valkey").mkdir()
    with valkey_server(tmp_path / "valkey") as server:
        path = write_inventory(made, ('url = "redis://127.0.0.1:6379/0"', f'url = "{server.url}"'))
        text = path.read_text().replace("[broker]", '[broker]\npassword = { file = "secrets/broker" }')
        path.write_text(text)
        (made / "secrets" / "broker").write_text(PASSWORD)
        (made / "secrets" / "broker").chmod(0o600)
        with BrokerConnection(server.secret_url) as connection:
            connection.default_channel.put_aside(judged("recovery", b"s3cret junk"))
        yield made


def test_the_command_asks_the_broker_where_there_is_an_inventory(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = run(["doctor", "--json", "--home", str(home)])

    rows = {row["what"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert status == 2
    assert "appendonly yes" in rows["broker persistence"]["remedy"]
    assert rows["broker version"]["ok"]


def test_what_was_put_aside_is_listed_and_its_body_only_when_asked_for(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["broker", "dead", "--home", str(home)]) == 0
    listed = capsys.readouterr().out
    assert run(["broker", "dead", "--body", "--json", "--home", str(home)]) == 0
    content = json.loads(capsys.readouterr().out)

    assert "1 put aside" in listed
    assert "not_json" in listed
    assert "s3cret" not in listed
    assert content["count"] == 1
    assert content["letters"][0]["body"] == "s3cret junk"
