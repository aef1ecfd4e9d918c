"""What must hold on every broker: Valkey with its append-only file, and RabbitMQ with quorum queues."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator

import pytest
from kombu import Connection

from ha_tasks.errors import BrokerUnreachable, Unroutable
from ha_tasks.model.message import Message
from ha_tasks.names import DELIVERY_LIMIT
from tests.integration.broker_stage import Stage, await_, staged
from tests.rabbitmq_server import RabbitmqServer
from tests.valkey_server import ValkeyServer, valkey_server

KINDS = ("valkey", pytest.param("rabbitmq", marks=pytest.mark.needs("rabbitmq")))


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with valkey_server(tmp_path_factory.mktemp("valkey"), durable=True) as server:
        yield server


@pytest.fixture(scope="module", params=KINDS)
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    broker: ValkeyServer | RabbitmqServer = request.getfixturevalue(str(request.param))
    with staged(str(request.param), broker, tmp_path_factory.mktemp("home")) as made:
        # The first message waits for the worker's start.
        made.await_done(made.send("mark"), within_s=30)
        yield made


def test_a_step_is_delivered(stage: Stage) -> None:
    stage.await_done(stage.send("mark"))


def test_the_message_of_a_killed_child_comes_back(stage: Stage) -> None:
    run = stage.send("linger")
    begun = stage.home / f"linger-{run}"
    await_(lambda: begun.exists() and begun.read_text(), "the step has begun")

    os.kill(int(begun.read_text()), signal.SIGKILL)

    stage.await_done(run)


def test_a_message_that_kills_its_worker_again_and_again_is_put_aside(stage: Stage) -> None:
    """One without an end: a step's message would expire, and the journal counts its attempts."""
    stage.app.send_task("ha.step.killer", kwargs={"run": 0}, queue="recovery", ignore_result=True)
    await_(lambda: any(e.reason == "delivery_limit" for e in stage.dead()), "it is put aside", 19)

    letter = next(e for e in stage.dead() if e.reason == "delivery_limit")

    assert (letter.queue, letter.task) == ("recovery", "ha.step.killer")
    assert stage.marks().count("killer-0") == DELIVERY_LIMIT
    stage.await_done(stage.send("mark"))


def test_a_queue_that_nobody_knows_is_an_error_and_stops_nothing_else(stage: Stage) -> None:
    with pytest.raises(Unroutable, match="no queue host"):
        stage.dispatch.send(Message(task="ha.step.mark", queue="host.nowhere", kwargs={"run": 0}))

    stage.await_done(stage.send("mark"))


def test_what_waits_is_counted(stage: Stage) -> None:
    before = stage.waiting("backups")
    for _ in range(3):
        stage.send("mark", queue="backups")

    await_(lambda: stage.waiting("backups") == before + 3, "three more wait")


def test_nothing_is_lost_when_the_broker_goes_and_comes_back(stage: Stage) -> None:
    """A confirmed message is on disk, and a worker comes back within five seconds of the broker."""
    before = stage.waiting("backups")
    for _ in range(3):
        stage.send("mark", queue="backups")
    await_(lambda: stage.waiting("backups") == before + 3, "three more wait")
    before += 3
    if isinstance(stage.broker, RabbitmqServer):
        stage.broker.retire()
    else:
        # The append-only file is written every second: what is younger may be lost, and the sweeper knows.
        with stage.broker.client() as client:
            client.config_set("appendfsync", "always")
            stage.send("mark", queue="backups")
            before += 1
        stage.broker.stop()
    with pytest.raises(BrokerUnreachable):
        stage.send("mark")
    stage.broker.start()

    await_(lambda: stage.waiting("backups") == before, "everything is there again", 10)
    sent: list[int] = []

    def taken() -> bool:
        try:
            sent.append(stage.send("mark"))
        except BrokerUnreachable:
            return False
        return True

    await_(taken, "the broker takes messages again", 3)
    stage.await_done(sent[-1], within_s=5)


def publish(stage: Stage, body: object, **options: object) -> None:
    """As a stranger would who may write to the broker, with nothing of ours."""
    with Connection(stage.broker.secret_url) as connection:
        producer = connection.Producer()
        producer.publish(body, exchange="", routing_key="recovery", retry=False, **options)


def task(name: str, **changes: object) -> dict[str, object]:
    return {"headers": {"task": name, "id": "some-id", "lang": "py", **changes}}


PICKLED = {"content_type": "application/x-python-serialize", "content_encoding": "binary"}
POISON = {
    "unknown_task": ([[], {}, {}], task("ha.step.nonsense"), "unknown_task"),
    "pickle": (
        b"cos\nsystem\n",
        task("ha.step.mark") | PICKLED,
        "content_type",
    ),
    "no task": ({"hello": "world"}, {}, "not_a_task"),
    "no id": ([[], {}, {}], {"headers": {"task": "ha.step.mark"}}, "not_a_task"),
    "odd headers": ([[], {}, {}], task("ha.step.mark", expires="soon"), "not_a_task"),
    "odd body": (
        b"{not json",
        task("ha.step.mark") | {"content_type": "application/json", "content_encoding": "utf-8"},
        "not_json",
    ),
    "huge": (
        [["x" * 1_100_000], {}, {}],
        task("ha.step.mark"),
        "huge",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", POISON)
def test_poison_is_put_aside_with_a_record_and_the_next_message_is_taken(stage: Stage, kind: str) -> None:
    body, options, reason = POISON[kind]
    before = len(stage.dead())

    publish(stage, body, **options)
    run = stage.send("mark")

    stage.await_done(run)
    assert stage.worker is not None
    assert stage.worker.poll() is None, stage.log()
    await_(lambda: len(stage.dead()) == before + 1, "it is recorded", 5)
    letter = stage.dead()[0]
    assert (letter.reason, letter.queue) == (reason, "recovery")
    assert letter.size > 0
    assert len(letter.body) <= 4096


@pytest.mark.parametrize("stage", ["valkey"], indirect=True)
@pytest.mark.parametrize(
    "junk",
    [
        b"not json at all",
        b"[]",
        b"\xff\xfe",
        b'{"body": "e30=", "headers": {}, "properties": {}}',
        b"[" * 100_000,
        json.dumps(
            {
                "body": "***", "content-type": "application/json", "headers": {},
                "properties": {"delivery_tag": "1", "delivery_info": {}, "body_encoding": "base64"},
            }
        ).encode(),
        json.dumps(
            {
                "body": "_", "content-type": "application/json", "headers": {},
                "properties": {
                    "delivery_tag": "1", "body_encoding": "base64",
                    "delivery_info": {"exchange": "", "routing_key": "recovery"},
                },
            }
        ).encode(),
    ],
)  # fmt: skip
def test_junk_in_a_list_of_redis_ends_no_worker(stage: Stage, junk: bytes) -> None:
    """RabbitMQ hands out nothing but messages, so this is about Redis alone."""
    before = len(stage.dead())

    with stage.broker.client() as client:
        client.lpush("recovery", junk)
    run = stage.send("mark")

    stage.await_done(run)
    await_(lambda: len(stage.dead()) == before + 1, "it is recorded", 5)
    assert stage.dead()[0].reason in ("not_json", "not_a_task")


@pytest.mark.full
def test_after_a_minute_without_a_broker_work_resumes_within_five_seconds(stage: Stage) -> None:
    """Kombu's own pauses would have grown to a quarter of a minute by then."""
    stage.broker.stop()
    until = time.monotonic() + 60
    longest_s = 0.0
    while time.monotonic() < until:
        began = time.monotonic()
        with pytest.raises(BrokerUnreachable):
            stage.send("mark")
        longest_s = max(longest_s, time.monotonic() - began)
        time.sleep(0.2)
    stage.broker.start()
    back = time.monotonic()
    sent: list[int] = []

    def taken() -> bool:
        try:
            sent.append(stage.send("mark"))
        except BrokerUnreachable:
            return False
        return True

    await_(taken, "the broker takes messages again", 5)
    stage.await_done(sent[-1], within_s=5)

    assert time.monotonic() - back < 5
    assert longest_s < 1
