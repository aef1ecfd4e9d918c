"""The broker is away: nobody waits for longer than a second, nothing is lost, and work resumes by itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from ha_tasks.adapters.broker_queues import queues_at
from ha_tasks.embedded.binaries import resolve
from ha_tasks.embedded.doctor import examine_broker
from ha_tasks.errors import BrokerUnreachable
from ha_tasks.model.broker import BrokerAddress, broker_address
from ha_tasks.model.message import Message
from ha_tasks.tasks.app import make_app
from ha_tasks.tasks.dispatch import EXPIRES_S, CeleryDispatch
from tests.integration.broker_stage import await_
from tests.rabbitmq_server import RabbitmqServer
from tests.servers import free_port
from tests.valkey_server import PASSWORD, ValkeyServer, valkey_server

STEP = Message(task="ha.step.take_out", queue="recovery", kwargs={"run": 1, "step": 1})
KINDS = ("valkey", pytest.param("rabbitmq", marks=pytest.mark.needs("rabbitmq")))
PROMISE_S = 1.0


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    with valkey_server(tmp_path, durable=True) as server:
        yield server


@pytest.fixture(params=KINDS)
def broker(request: pytest.FixtureRequest) -> ValkeyServer | RabbitmqServer:
    server: ValkeyServer | RabbitmqServer = request.getfixturevalue(str(request.param))
    return server


@pytest.fixture
def dispatch(broker: ValkeyServer | RabbitmqServer) -> Iterator[CeleryDispatch]:
    """One that has sent before, so that it has a connection to lose."""
    app = make_app(broker.secret_url)
    made = CeleryDispatch(app)
    made.send(STEP)
    yield made
    made.close()
    app.close()


def silenced(broker: ValkeyServer | RabbitmqServer, number: int) -> None:
    """SIGSTOP: its kernel goes on accepting connections, and nobody answers."""
    assert broker.process is not None
    os.killpg(broker.process.pid, number) if isinstance(broker, RabbitmqServer) else os.kill(
        broker.process.pid, number
    )


def refusal_s(send: Callable[[Message], object]) -> float:
    """How long a send takes that nobody answers."""
    began = time.monotonic()
    with pytest.raises(BrokerUnreachable):
        send(STEP)
    return time.monotonic() - began


def test_a_broker_that_accepts_and_says_nothing_costs_less_than_a_second(
    broker: ValkeyServer | RabbitmqServer, dispatch: CeleryDispatch
) -> None:
    """Over a kept connection, over a new one, one after the other, and from many threads at once."""
    app = make_app(broker.secret_url)
    fresh = CeleryDispatch(app)
    silenced(broker, signal.SIGSTOP)
    try:
        took = [refusal_s(dispatch.send), refusal_s(fresh.send), refusal_s(dispatch.send)]
        in_threads: list[float] = []
        threads = [
            threading.Thread(target=lambda: in_threads.append(refusal_s(CeleryDispatch(app).send)))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
    finally:
        silenced(broker, signal.SIGCONT)

    assert len(in_threads) == 6
    assert max(took + in_threads) < PROMISE_S
    # The third one remembers what the first has found out.
    assert took[2] < 0.05
    await_(lambda: _taken(dispatch), "it takes messages again", 5)
    app.close()


def test_a_forked_child_neither_waits_nor_uses_the_connection_of_its_parent(
    broker: ValkeyServer | RabbitmqServer, dispatch: CeleryDispatch
) -> None:
    silenced(broker, signal.SIGSTOP)
    try:
        child = os.fork()
        if child == 0:
            took = refusal_s(dispatch.send)
            os._exit(0 if took < PROMISE_S else 1)
        _, status = os.waitpid(child, 0)
    finally:
        silenced(broker, signal.SIGCONT)

    assert os.waitstatus_to_exitcode(status) == 0
    await_(lambda: _taken(dispatch), "the parent's connection still works", 5)


def test_a_broker_that_is_gone_is_told_at_once_and_found_again(valkey: ValkeyServer) -> None:
    app = make_app(valkey.secret_url)
    dispatch = CeleryDispatch(app)
    dispatch.send(STEP)
    valkey.stop()

    took = [refusal_s(dispatch.send) for _ in range(50)]
    valkey.start()

    assert max(took) < 0.5
    await_(lambda: _taken(dispatch), "it takes messages again", 5)
    dispatch.close()
    app.close()


def test_a_broker_that_was_restarted_between_two_sends_costs_none_of_them(valkey: ValkeyServer) -> None:
    app = make_app(valkey.secret_url)
    dispatch = CeleryDispatch(app)
    dispatch.send(STEP)
    valkey.stop()
    valkey.start()

    dispatch.send(STEP)

    dispatch.close()
    app.close()


def test_a_message_of_a_step_has_an_end_so_that_no_backlog_of_doubles_builds_up(valkey: ValkeyServer) -> None:
    """The sweeper sends a step again every 1.5 s while all workers are busy."""
    app = make_app(valkey.secret_url)
    dispatch = CeleryDispatch(app)
    dispatch.send(STEP)
    with valkey.client() as client:
        headers = json.loads(client.lindex("recovery", 0))["headers"]
    dispatch.close()
    app.close()

    left = app.now().fromisoformat(headers["expires"]) - app.now()
    assert timedelta(seconds=EXPIRES_S - 3) < left <= timedelta(seconds=EXPIRES_S)


def test_of_several_urls_the_next_one_is_taken(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with valkey_server(first) as one, valkey_server(second) as two:
        address = BrokerAddress(urls=(one.secret_url, two.secret_url)).text()
        app, queues = make_app(address), queues_at(address)
        dispatch = CeleryDispatch(app)
        dispatch.send(STEP)
        one.stop()
        await_(lambda: _taken(dispatch), "the second one takes messages", 3)
        with two.client() as client:
            waiting = client.llen("recovery")
        seen = queues.backlogs(["recovery"])["recovery"].waiting
        dispatch.close()
        queues.close()
        app.close()

    assert waiting == seen == 1


def test_both_urls_silent_cost_less_than_a_second(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    with valkey_server(tmp_path / "first") as one, valkey_server(tmp_path / "second") as two:
        app = make_app(BrokerAddress(urls=(one.secret_url, two.secret_url)).text())
        dispatch = CeleryDispatch(app)
        for server in (one, two):
            silenced(server, signal.SIGSTOP)
        took = refusal_s(dispatch.send)
        for server in (one, two):
            silenced(server, signal.SIGCONT)
        app.close()

    assert took < PROMISE_S


def _taken(dispatch: CeleryDispatch) -> bool:
    try:
        dispatch.send(STEP)
    except BrokerUnreachable:
        return False
    return True


class Process:
    """Another Valkey process: a replica, or a Sentinel."""

    def __init__(self, home: Path, lines: list[str], *arguments: str) -> None:
        self.port = free_port()
        home.mkdir()
        config = home / "valkey.conf"
        text = [f"port {self.port}", "bind 127.0.0.1", f'dir "{home}"', *lines]
        config.write_text("\n".join(text) + "\n")
        command = [str(resolve("valkey").path), str(config), *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def end(self) -> None:
        self.process.kill()
        self.process.wait(5)


SENTINEL_PASSWORD = "pass-of-the-sentinel"


def _sentinel(home: Path, master: int) -> Process:
    lines = [
        f"requirepass {SENTINEL_PASSWORD}",
        f"sentinel monitor ha 127.0.0.1 {master} 1",
        f"sentinel auth-pass ha {PASSWORD}",
        "sentinel down-after-milliseconds ha 500",
        "sentinel failover-timeout ha 2000",
    ]
    return Process(home, lines, "--sentinel")


def test_sentinel_leads_to_the_new_master_after_the_old_one_was_killed(
    tmp_path: Path, valkey: ValkeyServer
) -> None:
    """A second Sentinel does not answer at all: that costs a moment, no more."""
    login = [f"requirepass {PASSWORD}", f"masterauth {PASSWORD}", 'save ""']
    replica = Process(tmp_path / "replica", [*login, f"replicaof 127.0.0.1 {valkey.port}"])
    with valkey.client() as client:
        await_(lambda: _replicated(client), "the replica follows", 10)
    # Only now: it asks the master for its replicas when it starts, and every ten seconds.
    sentinel = _sentinel(tmp_path / "sentinel", valkey.port)
    address = BrokerAddress(
        urls=tuple(f"sentinel://:{PASSWORD}@127.0.0.1:{port}/0" for port in (free_port(), sentinel.port)),
        master_name="ha",
        sentinel_password=SENTINEL_PASSWORD,
    ).text()
    app, queues = make_app(address), queues_at(address)
    dispatch = CeleryDispatch(app)
    try:
        with redis.Redis(port=sentinel.port, password=SENTINEL_PASSWORD) as asked:
            await_(lambda: _known_replicas(asked), "the Sentinel knows the replica", 10)
        await_(lambda: _taken(dispatch), "the master takes messages", 5)
        rows = examine_broker(broker_address(address))
        assert all(row.ok for row in rows), rows
        valkey.stop()
        assert refusal_s(dispatch.send) < PROMISE_S
        await_(lambda: _taken(dispatch), "the new master takes messages", 15)

        assert queues.backlogs(["recovery"])["recovery"].waiting >= 2
    finally:
        dispatch.close()
        queues.close()
        app.close()
        sentinel.end()
        replica.end()


def _replicated(client: Any) -> bool:
    info = client.info("replication")
    return bool(info["connected_slaves"]) and info["slave0"]["state"] == "online"


def _known_replicas(sentinel: Any) -> int:
    try:
        return int(sentinel.sentinel_master("ha")["num-slaves"])
    except redis.RedisError:
        return 0
