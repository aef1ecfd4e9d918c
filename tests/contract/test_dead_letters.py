"""What was put aside is shown newest first and stays where it is, on each kind of broker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import amqp
import pytest

from ha_tasks.adapters.dead_letters import dead_letters_at, from_amqp, recorded
from ha_tasks.errors import BrokerUnreachable, StoreUnreachable
from ha_tasks.names import DEAD_KEPT, DEAD_QUEUE, PoisonReason
from ha_tasks.tasks.broker import dead_queue
from ha_tasks.tasks.connection import BrokerConnection
from ha_tasks.tasks.quarantine import BODY_KEPT, Tally, poison
from ha_tasks.tasks.redis_transport import judged
from tests.rabbitmq_server import RabbitmqServer
from tests.servers import free_port
from tests.valkey_server import ValkeyServer, valkey_server

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with valkey_server(tmp_path_factory.mktemp("valkey")) as server:
        yield server


def record(number: int) -> str:
    return poison(PoisonReason.UNKNOWN_TASK, "recovery", f"body {number}", headers={"id": number}).record(NOW)


@pytest.fixture(params=["valkey", pytest.param("rabbitmq", marks=pytest.mark.needs("rabbitmq"))])
def url(request: pytest.FixtureRequest) -> str:
    """A broker on which three were put aside."""
    server: ValkeyServer | RabbitmqServer = request.getfixturevalue(str(request.param))
    if isinstance(server, ValkeyServer):
        with server.client() as client:
            client.delete(DEAD_QUEUE)
            client.lpush(DEAD_QUEUE, *(record(n) for n in (1, 2, 3)))
    else:
        with server.connect() as connection:
            channel = connection.channel()
            arguments = dead_queue().queue_arguments
            channel.queue_declare(DEAD_QUEUE, durable=True, auto_delete=False, arguments=arguments)
            channel.queue_purge(DEAD_QUEUE)
            for n in (1, 2, 3):
                channel.basic_publish_confirm(amqp.Message(record(n)), routing_key=DEAD_QUEUE)
    return server.secret_url


def test_the_newest_comes_first_and_looking_takes_nothing_out(url: str) -> None:
    letters = dead_letters_at(url)

    looks = [letters.newest(2) for _ in range(4)]
    letters.close()

    for count, newest in looks:
        assert count == 3
        assert [letter.id for letter in newest] == ["3", "2"]


def test_a_broker_that_is_away_is_said_to_be_unreachable() -> None:
    for scheme in ("redis", "amqp"):
        letters = dead_letters_at(f"{scheme}://:hush@127.0.0.1:{free_port()}/")
        with pytest.raises(BrokerUnreachable) as told:
            letters.newest(1)
        assert "hush" not in str(told.value)


def test_where_nothing_was_ever_put_aside_there_is_nothing(tmp_path: Path) -> None:
    with valkey_server(tmp_path) as server:
        letters = dead_letters_at(server.secret_url)
        assert letters.newest(5) == (0, [])
        letters.close()


def test_a_message_that_rabbitmq_moved_says_why_and_where_from() -> None:
    death = {"reason": "delivery_limit", "queue": "recovery", "time": datetime(2026, 1, 1, 12)}  # noqa: DTZ001
    headers = {"x-death": [death], "task": "ha.sweep", "id": "x"}
    letter = from_amqp(SimpleNamespace(headers=headers, body=b"[[], {}, {}]"))

    assert (letter.reason, letter.queue, letter.task) == ("delivery_limit", "recovery", "ha.sweep")
    assert letter.at == "2026-01-01T12:00:00.000+00:00"


@pytest.mark.parametrize("raw", [b"\xff", b"[]", b'{"reason": "x"}'])
def test_what_is_no_record_is_shown_as_it_stands(raw: bytes) -> None:
    letter = recorded(raw)

    assert letter.reason == "unreadable"
    assert letter.size == len(raw)


def test_a_record_is_bounded_and_no_repr_shows_a_body() -> None:
    found = poison(PoisonReason.HUGE, "recovery", b"s3cret" * 1_000_000, headers={"task": "t" * 9999})

    assert len(json.loads(found.record(NOW))["body"]) <= BODY_KEPT
    assert len(found.record(NOW)) < 2 * BODY_KEPT
    assert "s3cret" not in repr(found)
    assert found.size == 6_000_000


def test_the_list_of_dead_letters_is_cut(valkey: ValkeyServer) -> None:
    with BrokerConnection(valkey.secret_url) as connection, valkey.client() as client:
        client.lpush(DEAD_QUEUE, *["x"] * (2 * DEAD_KEPT))
        connection.default_channel.put_aside(judged("recovery", b"junk"))
        left = client.llen(DEAD_QUEUE)

    assert left == DEAD_KEPT


def test_what_could_not_be_reported_is_reported_the_next_time() -> None:
    told: list[dict[str, int]] = []
    away = [True]

    def report(found: object) -> None:
        if away.pop() if away else False:
            raise StoreUnreachable("away")
        told.append(dict(found))  # type: ignore[call-overload]

    tally = Tally()
    tally.connect(report)
    for _ in range(2):
        tally.add(poison(PoisonReason.NOT_JSON, "q", b"x"))
    tally.flush()
    tally.flush()
    tally.flush()

    assert told == [{PoisonReason.NOT_JSON: 2}]
