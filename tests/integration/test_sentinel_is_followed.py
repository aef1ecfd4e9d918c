"""A Redis that Sentinel leads, behind a real HAProxy: its primary is killed, and an observer follows."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from ha_tasks.adapters.redis_control import RedisInfo
from ha_tasks.bootstrap import assemble
from ha_tasks.bootstrap.system import System
from ha_tasks.inventory import load
from ha_tasks.store.migration import migrate
from tests.contract.test_redis_control import service_at, until
from tests.haproxy_server import HaproxyServer
from tests.sentinels import NAME, SENTINEL_PASSWORD, running_sentinels
from tests.valkey_server import PASSWORD, ValkeyServer, valkey_server

WITHIN_S = 20.0
INVENTORY = """
schema = 1
platform = {{ name = "cache-only" }}
store = {{ url = "sqlite:///ha.db" }}
broker = {{ url = "redis://127.0.0.1:1/0" }}

[balancers.lb]
socket = "{socket}"

[services.cache]
kind = "redis"
managed_by = "sentinel"

[services.cache.sentinel]
addresses = {sentinels}
name = "{name}"
password = {{ env = "SENTINEL_PASSWORD" }}

[services.cache.redis]
password = {{ env = "CACHE_PASSWORD" }}
replicated = true

[services.cache.routing]
backend = "pg_write"
entry = "127.0.0.1:{entry}"

[[services.cache.instances]]
name = "c1"
address = "127.0.0.1:{first}"

[[services.cache.instances]]
name = "c2"
address = "127.0.0.1:{second}"
"""


class Writer:
    """Counts ``key`` up through the balancer; ``kept``: how many of that were acknowledged."""

    def __init__(self, port: int, key: str) -> None:
        self._options = {"host": "127.0.0.1", "port": port, "password": PASSWORD, "socket_timeout": 0.5}
        self._key = key
        self.kept = 0

    def writes(self) -> bool:
        try:
            with redis.Redis(**self._options) as client:
                client.incr(self._key)
        except redis.RedisError:
            return False
        self.kept += 1
        return True


@contextmanager
def observed(system: System) -> Iterator[None]:
    ended = threading.Event()
    observer = threading.Thread(target=system.observer.run, args=(ended,))
    observer.start()
    try:
        yield
    finally:
        ended.set()
        observer.join(WITHIN_S)


def link(first: ValkeyServer, second: ValkeyServer) -> None:
    for server in (first, second):
        with server.client() as client:
            client.config_set("masterauth", PASSWORD)
            client.config_set("repl-diskless-sync-delay", "0")
    with second.client() as client:
        client.replicaof("127.0.0.1", first.port)
    pair = service_at(first.port, second.port)
    until(lambda: RedisInfo(lambda _: PASSWORD).reading(pair, pair.instances[1]).link_up)


@pytest.mark.full
def test_writes_go_on_at_the_new_primary_and_the_old_one_that_comes_back_gets_none(tmp_path: Path) -> None:
    homes = {name: tmp_path / name for name in ("c1", "c2", "sentinels", "haproxy", "ha")}
    for home in homes.values():
        home.mkdir()
    with valkey_server(homes["c1"]) as first, valkey_server(homes["c2"]) as second:
        link(first, second)
        haproxy = HaproxyServer(homes["haproxy"], web={}, nodes={"c1": first.port, "c2": second.port})
        haproxy.start()
        try:
            with running_sentinels(homes["sentinels"], first.port) as sentinels:
                path = homes["ha"] / "ha-tasks.toml"
                entry = haproxy.ports["pg_write"]
                text = INVENTORY.format(
                    socket=haproxy.socket,
                    sentinels=[f"127.0.0.1:{port}" for port in sentinels],
                    name=NAME,
                    entry=entry,
                    first=first.port,
                    second=second.port,
                ).replace("'", '"')
                path.write_text(text)
                environ = {"SENTINEL_PASSWORD": SENTINEL_PASSWORD, "CACHE_PASSWORD": PASSWORD}
                inventory = load(path, environ)
                migrate(inventory.store_url())
                system = assemble(inventory, environ=environ)
                system.apply("test", "first")
                with observed(system):
                    _story(entry, first, second)
        finally:
            haproxy.stop()


def _story(entry: int, first: ValkeyServer, second: ValkeyServer) -> None:
    before, after = Writer(entry, "before"), Writer(entry, "after")
    until(before.writes)
    first.stop()
    until(after.writes)
    first.start()  # as whoever was away: it takes itself for the primary until Sentinel tells it
    ends = time.monotonic() + 3
    while time.monotonic() < ends:
        after.writes()
        time.sleep(0.01)

    assert after.kept > 100
    with second.client() as client:
        assert int(client.get("after") or 0) == after.kept
