"""The broker loses all it had, again and again: the journal sends it anew, and each effect comes once."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ha_tasks.model.message import Message
from ha_tasks.model.run import RunState
from ha_tasks.tasks.app import make_app
from ha_tasks.tasks.dispatch import CeleryDispatch
from tests.unit.test_recovery_orchestrator import THREE, A, B, C, V, World
from tests.valkey_server import ValkeyServer, valkey_server


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    with valkey_server(tmp_path) as server:
        yield server


class RealBroker:
    """In the place of the fake: sends through Celery, and takes out what a worker would get."""

    def __init__(self, server: ValkeyServer) -> None:
        self.app = make_app(server.secret_url)
        self.dispatch = CeleryDispatch(self.app)
        self.client: Any = server.client()
        self.lost = 0

    def send(self, message: Message) -> None:
        self.dispatch.send(message)

    @property
    def messages(self) -> int:
        return int(self.client.llen("recovery"))

    def take(self) -> Message:
        raw = json.loads(self.client.rpop("recovery"))
        _, kwargs, _ = json.loads(base64.b64decode(raw["body"]))
        return Message(task=raw["headers"]["task"], queue="recovery", kwargs=kwargs)

    def lose(self) -> None:
        """Everything, as an empty broker that took the place of a broken one."""
        self.lost += self.messages
        self.client.flushall()

    def close(self) -> None:
        self.client.close()
        self.dispatch.close()
        self.app.close()


def test_no_run_is_lost_when_the_broker_loses_its_data_before_each_step(valkey: ValkeyServer) -> None:
    broker, world = RealBroker(valkey), World(*THREE)
    world.broker = broker
    world.worker = world.executor("h/w1/1")
    for _ in THREE:
        _ended_one_step(world, broker)
        broker.lose()
    ended = world.finish()
    broker.close()

    assert broker.lost >= 3
    assert ended.state is RunState.SUCCEEDED
    assert world.log == [f"do {A}", f"do {B}", f"do {C}", f"do {V}"]


def _ended_one_step(world: World, broker: RealBroker) -> None:
    """The sweeper sends the lost message again; one step is taken, which sends the next one."""
    position = world.state.position
    while not broker.messages:
        world.clock.advance(1.0)
        world.worker.sweep()
    world.deliver()
    assert world.state.position > position or world.state.state is RunState.SUCCEEDED
