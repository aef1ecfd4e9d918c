"""The broker's shipped users, on a real broker with a real worker: enough for the work, and no more."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import kombu
import pytest
import redis
from celery import Celery

from ha_tasks.adapters.broker_queues import RedisQueues
from ha_tasks.embedded import secret_files, valkey
from ha_tasks.embedded.binaries import resolve
from ha_tasks.names import DEAD_QUEUE, Queue
from tests.servers import free_port

ROOT = Path(__file__).parents[2]
USERS = (valkey.CONTROL_USER, valkey.REQUEST_USER)
QUIET = ("--without-gossip", "--without-mingle")


@dataclass
class Guarded:
    """A broker with the shipped users, and a worker that came as the control plane."""

    port: int
    home: Path
    worker: subprocess.Popen[bytes] | None = None

    def url(self, user: str) -> str:
        return f"redis://{user}:{secret_files.read(self.home / user)}@127.0.0.1:{self.port}/0"

    def client(self, user: str) -> redis.Redis:
        return redis.Redis.from_url(self.url(user), socket_timeout=5)

    def denied(self) -> list[str]:
        """What the server has refused so far; the log is emptied."""
        with redis.Redis(port=self.port, username="auditor", password="only for this test") as auditor:
            entries = auditor.acl_log()
            auditor.acl_log_reset()
        return [f"{e['username']}: {e['reason']} {e['object']} in {e['context']}" for e in entries]

    def await_(self, condition: object, what: str, within_s: float = 30.0) -> None:
        end = time.monotonic() + within_s
        while not condition():  # type: ignore[operator]
            log = (self.home / "worker.log").read_text()
            assert time.monotonic() < end, f"{what}\n{log[-2000:]}"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    made = Guarded(port=free_port(), home=tmp_path_factory.mktemp("home"))
    secret_files.ensure(made.home, USERS)
    conf = made.home / "broker.conf"
    files = {user: made.home / user for user in USERS}
    valkey.write_broker_conf(conf, port=made.port, directory=made.home / "data", password_files=files)
    with conf.open("a") as more:
        more.write('user auditor on &* ~* +@all ">only for this test"\n')
    secret_files.write_private(made.home / "broker-url", made.url(valkey.CONTROL_USER))
    server = subprocess.Popen(
        [resolve("valkey").path, conf], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    (made.home / "worker.log").touch()
    try:
        made.await_(lambda: _answers(made), "the broker answers")
        made.worker = _worker(made)
        made.await_(lambda: "ready." in (made.home / "worker.log").read_text(), "the worker is ready")
        yield made
    finally:
        for process in (made.worker, server):
            if process is not None:
                process.terminate()
                process.wait(15)


def _answers(guarded: Guarded) -> bool:
    try:
        with guarded.client(valkey.CONTROL_USER) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


def _worker(guarded: Guarded) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "celery", "-A", "tests.integration.privileges_app", "worker"]
    plain = {k: v for k, v in os.environ.items() if not k.startswith("HA_TASKS")}
    with (guarded.home / "worker.log").open("wb") as log:
        return subprocess.Popen(
            [*command, "-P", "solo", "-Q", "recovery", "--loglevel=INFO", *QUIET],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**plain, "HA_TASKS_HOME": str(guarded.home)},
            cwd=ROOT,
        )


def test_another_service_enqueues_and_gets_its_reply_with_its_own_narrow_user(guarded: Guarded) -> None:
    """A bare Celery, without a word of ours, as any service has it."""
    guarded.denied()
    app = Celery("somebody", broker=guarded.url(valkey.REQUEST_USER), backend="rpc://", set_as_current=False)
    try:
        sent = app.send_task("ha.recovery.request", kwargs={"service": "web"}, queue="recovery")
        assert sent.get(timeout=15) == {"asked": {"service": "web"}}
    finally:
        app.close()

    assert guarded.denied() == []


def test_the_control_plane_is_refused_nothing_that_it_does(guarded: Guarded) -> None:
    """Sending, working, remote control as Flower's, reading queues: the server's own log is the judge."""
    guarded.denied()
    app = Celery("control", broker=guarded.url(valkey.CONTROL_USER), set_as_current=False)
    queues = RedisQueues(guarded.url(valkey.CONTROL_USER))
    try:
        app.send_task("ha.recovery.request", queue="recovery", ignore_result=True)
        pong = app.control.ping(timeout=2.0)
        assert pong, (guarded.denied(), (guarded.home / "worker.log").read_text()[-3000:])
        app.control.enable_events()
        guarded.await_(lambda: "succeeded" in (guarded.home / "worker.log").read_text(), "it is done")
        assert queues.backlogs(["recovery", "host.app"])["recovery"].waiting == 0
    finally:
        queues.close()
        app.close()

    assert guarded.denied() == []


@pytest.mark.parametrize(
    "command",
    [
        "FLUSHALL", "FLUSHDB", "CONFIG SET maxmemory 1", "CONFIG REWRITE", "KEYS *",
        "SCAN 0",
        "MONITOR", "SHUTDOWN", "SAVE", "BGREWRITEAOF", "ACL LIST", "ACL SETUSER x on", "CLIENT LIST",
        "CLIENT KILL TYPE normal", "SCRIPT FLUSH", "FUNCTION FLUSH", "MODULE LIST", "REPLICAOF no one",
        "SET foo 1", "GET application:session", "LPUSH somebody-elses-queue x", "RENAME recovery x",
        "PUBLISH application x", "RANDOMKEY", "SWAPDB 0 1", "MIGRATE h 1 k 0 1",
    ],
)  # fmt: skip
def test_a_stolen_password_of_the_control_plane_does_not_reach_further_than_its_queues(
    guarded: Guarded, command: str
) -> None:
    refused(guarded, valkey.CONTROL_USER, command)


@pytest.mark.parametrize(
    "command",
    [
        "LRANGE recovery 0 -1", "RPOP recovery", "BRPOP recovery 1", "LINDEX recovery 0", "DEL recovery",
        "LPUSH probes x", "LPUSH host.app x", "LPUSH backups x", "HGETALL unacked.fast", "DEL unacked.fast",
        "LRANGE ha.dead 0 -1", "SADD _kombu.binding.ha x", "SADD _kombu.binding.celery.pidbox x",
        "PUBLISH /0.celery.pidbox x", "PSUBSCRIBE *", "SUBSCRIBE /0.celeryev/task.sent", "INFO",
        "CONFIG GET *",
        "EVAL return 0", "SET recovery x", "KEYS *", "FLUSHALL", "MONITOR", "CLIENT LIST", "ACL WHOAMI",
    ],
)  # fmt: skip
def test_who_only_asks_for_recoveries_can_neither_read_nor_steer(guarded: Guarded, command: str) -> None:
    refused(guarded, valkey.REQUEST_USER, command)


def refused(guarded: Guarded, user: str, command: str) -> None:
    with guarded.client(user) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command.split(), *(["0"] if command.startswith("EVAL") else []))


@pytest.mark.parametrize("login", [{}, {"password": "guess"}, {"username": "default", "password": "guess"}])
def test_nobody_comes_in_without_a_name(guarded: Guarded, login: dict[str, str]) -> None:
    with redis.Redis(port=guarded.port, **login) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_a_password_is_changed_while_everybody_works(guarded: Guarded) -> None:
    """As docs/howto/security.md says: two passwords for a while, then the new one alone."""
    old = secret_files.read(guarded.home / valkey.CONTROL_USER)

    def comes_in(password: str) -> bool:
        with redis.Redis(port=guarded.port, username=valkey.CONTROL_USER, password=password) as client:
            try:
                return bool(client.ping())
            except redis.AuthenticationError:
                return False

    with redis.Redis(port=guarded.port, username="auditor", password="only for this test") as auditor:
        auditor.execute_command("ACL", "SETUSER", valkey.CONTROL_USER, ">a new word")
        both = comes_in(old), comes_in("a new word")
        auditor.execute_command("ACL", "SETUSER", valkey.CONTROL_USER, f"<{old}")
        after = comes_in(old), comes_in("a new word")
        auditor.execute_command("ACL", "SETUSER", valkey.CONTROL_USER, f">{old}", "<a new word")

    assert (both, after) == ((True, True), (False, True))


@pytest.mark.parametrize(
    ("content_type", "encoding", "body"),
    [
        ("application/x-python-serialize", "binary", pickle.dumps([[], {}, {}])),
        ("application/x-yaml", "utf-8", b"!!python/object/apply:os.system ['true']"),
        ("application/x-msgpack", "binary", b"\x93\x90\x80\x80"),
    ],
)
def test_what_is_no_json_is_not_even_decoded_and_the_worker_lives(
    guarded: Guarded, content_type: str, encoding: str, body: bytes
) -> None:
    before = (guarded.home / "worker.log").read_text().count("succeeded")
    headers = {"task": "ha.recovery.request", "id": str(uuid.uuid4()), "lang": "py"}
    with kombu.Connection(guarded.url(valkey.CONTROL_USER)) as connection:
        producer = connection.Producer()
        producer.publish(
            body, routing_key="recovery", exchange="", headers=headers,
            content_type=content_type, content_encoding=encoding,
        )  # fmt: skip
        producer.publish(
            [[], {}, {}], routing_key="recovery", exchange="", headers=headers, serializer="json"
        )

    def done() -> int:
        return (guarded.home / "worker.log").read_text().count("succeeded") - before

    guarded.await_(lambda: done() == 1, "the message behind it is worked on")
    assert guarded.worker is not None
    assert guarded.worker.poll() is None


def test_no_password_stands_in_the_configuration(guarded: Guarded) -> None:
    text = (guarded.home / "broker.conf").read_text()

    assert not [user for user in USERS if secret_files.read(guarded.home / user) in text]


def test_every_queue_of_the_product_is_within_the_control_planes_keys(guarded: Guarded) -> None:
    with guarded.client(valkey.CONTROL_USER) as client:
        lengths = {
            name: client.llen(name) for name in (*map(str, Queue), "host.app1", "host.app1.fast", DEAD_QUEUE)
        }

    assert set(lengths.values()) <= set(range(10))
