"""One contract for whoever looks at queues: the fake, and Redis with what Kombu really writes there."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import amqp
import pytest
from kombu import Connection, Exchange, Queue

from ha_tasks.adapters.amqp_queues import AmqpQueues
from ha_tasks.adapters.broker_queues import RedisQueues, queues_at
from ha_tasks.errors import BrokerUnreachable
from ha_tasks.ports.queues import Backlog, Queues
from tests.fakes.queues import FakeQueues
from tests.rabbitmq_server import RabbitmqServer
from tests.servers import free_port
from tests.valkey_server import PASSWORD, ValkeyServer, valkey_server


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with valkey_server(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@dataclass
class KombuBroker:
    """Sends and takes as Celery does, through Kombu, on a real server."""

    url: str
    unacked_key: str = "unacked.fast"
    held: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        options = {"unacked_key": self.unacked_key}
        self.connection = Connection(self.url, password=PASSWORD, transport_options=options)
        self.channel = self.connection.channel()
        # The prefetch limit is what lets a consumer take only one message.
        self.channel.basic_qos(0, 100, False)

    def _queue(self, name: str) -> Any:
        return Queue(name, Exchange(name, type="direct"), routing_key=name)(self.channel)

    def send(self, queue: str, *, priority: int = 0, sent_at: float | None = None) -> None:
        headers = {} if sent_at is None else {"sent_at": sent_at}
        self.connection.Producer().publish(
            {"v": 1}, routing_key=queue, exchange=queue, declare=[self._queue(queue)],
            headers=headers, priority=priority, retry=False,
        )  # fmt: skip

    def take(self, queue: str) -> None:
        message = self._queue(queue).get(no_ack=False)
        assert message is not None
        self.held.append(message)

    def close(self) -> None:
        for message in self.held:
            message.ack()
        self.connection.release()


@dataclass
class Stage:
    """A broker to act on, and the queues as the port shows them."""

    broker: Any
    queues: Queues

    def look(self, queue: str) -> Backlog:
        return self.queues.backlogs([queue])[queue]


@pytest.fixture(params=["fake", "valkey"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    if request.param == "fake":
        fake = FakeQueues()
        yield Stage(fake, fake)
        return
    server: ValkeyServer = request.getfixturevalue("valkey")
    with server.client() as client:
        client.flushdb()
    broker = KombuBroker(server.url)
    queues = RedisQueues(server.url, password=PASSWORD)
    yield Stage(broker, queues)
    broker.close()
    queues.close()


def test_a_queue_that_nobody_has_used_is_empty(stage: Stage) -> None:
    assert stage.look("recovery") == Backlog(waiting=0, unacked=0, oldest_sent_at=None)


def test_messages_of_every_priority_are_counted(stage: Stage) -> None:
    for priority in (0, 3, 3, 6, 9):
        stage.broker.send("recovery", priority=priority)
    stage.broker.send("probes")

    assert stage.look("recovery").waiting == 5
    assert stage.look("probes").waiting == 1


def test_what_a_worker_has_taken_is_unacked_and_no_longer_waits(stage: Stage) -> None:
    for _ in range(3):
        stage.broker.send("recovery")
    stage.broker.send("probes")
    stage.broker.take("recovery")
    stage.broker.take("recovery")

    found = stage.queues.backlogs(["recovery", "probes"])

    assert (found["recovery"].waiting, found["recovery"].unacked) == (1, 2)
    assert (found["probes"].waiting, found["probes"].unacked) == (1, 0)


def test_the_oldest_is_the_one_next_in_line_over_all_priorities(stage: Stage) -> None:
    stage.broker.send("recovery", priority=0, sent_at=1_700_000_050.5)
    stage.broker.send("recovery", priority=0, sent_at=1_700_000_060.0)
    stage.broker.send("recovery", priority=9, sent_at=1_700_000_010.25)

    assert stage.look("recovery").oldest_sent_at == datetime.fromtimestamp(1_700_000_010.25, tz=UTC)


def test_a_message_without_a_stamp_has_no_known_age(stage: Stage) -> None:
    stage.broker.send("recovery")

    assert stage.look("recovery") == Backlog(waiting=1, unacked=0, oldest_sent_at=None)


def test_each_class_of_workers_is_counted(valkey: ValkeyServer) -> None:
    with valkey.client() as client:
        client.flushdb()
    brokers = [KombuBroker(valkey.url, unacked_key=key) for key in ("unacked", "unacked.slow")]
    for broker in brokers:
        broker.send("backups")
        broker.take("backups")
    queues = RedisQueues(valkey.url, password=PASSWORD)

    found = queues.backlogs(["backups"])["backups"]
    for broker in brokers:
        broker.close()
    queues.close()

    assert found == Backlog(waiting=0, unacked=2, oldest_sent_at=None)


@pytest.mark.parametrize("junk", [b"not json at all", b"[]", b'{"headers": {"sent_at": "soon"}}', b"\xff"])
def test_junk_in_a_list_is_counted_and_breaks_nothing(valkey: ValkeyServer, junk: bytes) -> None:
    with valkey.client() as client:
        client.flushdb()
        client.lpush("alerts", junk)
        client.hset("unacked", "tag", junk)
    queues = RedisQueues(valkey.url, password=PASSWORD)

    found = queues.backlogs(["alerts"])["alerts"]
    queues.close()

    assert found == Backlog(waiting=1, unacked=0, oldest_sent_at=None)


def test_many_taken_messages_are_sampled_and_scaled_up(valkey: ValkeyServer) -> None:
    entries = {f"tag-{n}": f'[{{}}, "x", "{"probes" if n % 2 else "recovery"}"]' for n in range(5000)}
    with valkey.client() as client:
        client.flushdb()
        client.hset("unacked.fast", mapping=entries)
    queues = RedisQueues(valkey.url, password=PASSWORD)

    found = queues.backlogs(["probes", "recovery"])
    queues.close()

    assert found["probes"].unacked == pytest.approx(2500, rel=0.4)
    assert found["probes"].unacked + found["recovery"].unacked == pytest.approx(5000, abs=2)


def test_a_broker_that_is_down_is_said_to_be_unreachable() -> None:
    fake = FakeQueues(down=True)
    real = RedisQueues(f"redis://:{PASSWORD}@127.0.0.1:{free_port()}/0")

    for queues in (fake, real):
        with pytest.raises(BrokerUnreachable) as told:
            queues.backlogs(["probes"])
        assert PASSWORD not in str(told.value)
        assert PASSWORD not in repr(queues)


def test_a_broker_that_accepts_and_says_nothing_costs_less_than_a_second() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        queues = RedisQueues(f"redis://127.0.0.1:{mute.getsockname()[1]}/0")
        began = time.monotonic()
        with pytest.raises(BrokerUnreachable, match="no answer in time"):
            queues.backlogs(["probes"])
        queues.close()

    assert time.monotonic() - began < 1.0


def test_a_wrong_password_is_told_without_the_password(valkey: ValkeyServer) -> None:
    queues = RedisQueues(valkey.url, password="a-wrong-secret")
    with pytest.raises(BrokerUnreachable, match="refused the password") as told:
        queues.backlogs(["probes"])
    queues.close()

    assert "a-wrong-secret" not in str(told.value)


def test_it_looks_again_after_the_broker_came_back(valkey: ValkeyServer) -> None:
    queues = RedisQueues(valkey.url, password=PASSWORD)
    queues.backlogs(["probes"])
    with valkey.client() as client:
        client.client_kill_filter(_type="normal")
    found = queues.backlogs(["probes"])
    queues.close()

    assert found.keys() == {"probes"}


@pytest.mark.parametrize(
    ("url", "reader"),
    [
        ("redis://127.0.0.1/0", RedisQueues),
        ("rediss://127.0.0.1/0", RedisQueues),
        ("sentinel://127.0.0.1/0?master_name=ha", RedisQueues),
        ("amqp://127.0.0.1//", AmqpQueues),
        ("amqps://127.0.0.1//", AmqpQueues),
    ],
)
def test_the_broker_says_how_its_queues_are_read(url: str, reader: type) -> None:
    queues = queues_at(url)
    queues.close()

    assert type(queues) is reader


def _sent(rabbitmq: RabbitmqServer, queue: str, number: int) -> None:
    """To a quorum queue, as the product declares it."""
    with rabbitmq.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(queue, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"})
        for _ in range(number):
            channel.basic_publish_confirm(amqp.Message("{}"), routing_key=queue)


@pytest.mark.needs("rabbitmq")
def test_rabbitmq_says_what_is_ready_and_no_more(rabbitmq: RabbitmqServer) -> None:
    """What cannot be asked without taking a message out stays unknown; a missing queue is empty."""
    _sent(rabbitmq, "contract.counted", 3)
    queues = queues_at(rabbitmq.secret_url)

    found = queues.backlogs(["contract.missing", "contract.counted"])
    again = queues.backlogs(["contract.counted"])
    queues.close()

    assert found["contract.counted"] == Backlog(waiting=3, unacked=None, oldest_sent_at=None)
    assert found["contract.missing"].waiting == 0
    assert again["contract.counted"].waiting == 3


@pytest.mark.needs("rabbitmq")
def test_a_rabbitmq_that_says_nothing_costs_less_than_a_second_and_is_found_again(
    rabbitmq: RabbitmqServer,
) -> None:
    queues = queues_at(rabbitmq.secret_url)
    queues.backlogs(["recovery"])
    rabbitmq.pause()
    try:
        took = []
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(BrokerUnreachable, match="no answer in time"):
                queues.backlogs(["recovery"])
            took.append(time.monotonic() - began)
    finally:
        rabbitmq.wake()

    assert max(took) < 1.0
    _answers_within(queues, 5.0)
    queues.close()


def _answers_within(queues: Queues, within_s: float) -> None:
    """One that has slept takes a moment to see to what has piled up."""
    ends = time.monotonic() + within_s
    while True:
        try:
            queues.backlogs(["recovery"])
        except BrokerUnreachable:
            assert time.monotonic() < ends
            continue
        return


@pytest.mark.needs("rabbitmq")
def test_rabbitmq_refuses_a_wrong_password_and_it_is_not_repeated(rabbitmq: RabbitmqServer) -> None:
    queues = queues_at(rabbitmq.secret_url.replace(PASSWORD, "a-wrong-secret"))
    with pytest.raises(BrokerUnreachable, match="refused the user or the password") as told:
        queues.backlogs(["recovery"])

    assert "a-wrong-secret" not in str(told.value)
    assert "a-wrong-secret" not in repr(queues)


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_nobody_listens(scheme: str) -> None:
    queues = queues_at(f"{scheme}://ha:{PASSWORD}@127.0.0.1:{free_port()}/")
    with pytest.raises(BrokerUnreachable, match="did not answer") as told:
        queues.backlogs(["recovery"])
    queues.close()

    assert PASSWORD not in str(told.value)
