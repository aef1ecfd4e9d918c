"""The word of real Sentinels, and a failover of theirs that the balancer follows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import Popen

import pytest

from ha_tasks.adapters.clock import SYSTEM_CLOCK
from ha_tasks.adapters.redis_control import RedisInfo
from ha_tasks.adapters.sentinel import SentinelWord
from ha_tasks.errors import ManagerUnreachable, UsageError
from ha_tasks.failover.load_balancer import LoadBalancer
from ha_tasks.failover.traffic_router import TrafficRouter
from ha_tasks.model.balancer import ServerState
from ha_tasks.model.led_by_others import LedCluster, MemberRole
from ha_tasks.model.platform import ManagedBy, Routing, SentinelApi, Service
from ha_tasks.workflows.led_follow import LedFollower
from tests.contract.test_redis_control import service_at, until
from tests.fakes.balancer import FakeBalancer
from tests.fakes.repositories import FakeWantedServers
from tests.sentinels import NAME, SENTINEL_PASSWORD, running_sentinels
from tests.unit.builders import platform
from tests.valkey_server import PASSWORD, ValkeyServer, valkey_server

WITHIN_S = 20.0
WORD = SentinelWord(password=lambda _: SENTINEL_PASSWORD)


@dataclass
class Led:
    service: Service
    servers: dict[str, ValkeyServer]
    sentinels: dict[int, Popen[bytes]]

    def says(self) -> LedCluster:
        return WORD.report(self.service)


@pytest.fixture
def led(tmp_path: Path) -> Iterator[Led]:
    homes = [tmp_path / name for name in ("c1", "c2", "sentinels")]
    for home in homes:
        home.mkdir()
    with valkey_server(homes[0]) as first, valkey_server(homes[1]) as second:
        for server in (first, second):
            with server.client() as client:
                client.config_set("masterauth", PASSWORD)
                client.config_set("repl-diskless-sync-delay", "0")
        with second.client() as client:
            client.replicaof("127.0.0.1", first.port)
        pair = service_at(first.port, second.port)
        until(lambda: RedisInfo(lambda _: PASSWORD).reading(pair, pair.instances[1]).link_up)
        with running_sentinels(homes[2], first.port) as sentinels:
            service = replace(
                pair,
                managed_by=ManagedBy.SENTINEL,
                sentinel=SentinelApi(addresses=tuple(f"127.0.0.1:{p}" for p in sentinels), name=NAME),
                routing=Routing(backend="cache_write", entry="127.0.0.1:1"),
            )
            yield Led(service, {"c1": first, "c2": second}, sentinels)


def awaited(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.full
def test_leader_and_replica_by_the_names_of_the_inventory_while_a_majority_answers(led: Led) -> None:
    awaited(lambda: [m.state for m in led.says().members] == ["running", "streaming"])
    found = led.says()
    first, second, _ = led.sentinels.values()
    first.kill()
    of_two = led.says()
    second.kill()

    assert (found.leader, of_two.leader) == ("c1", "c1")
    roles = {m.name: m.role for m in found.members}
    assert roles == {"c1": MemberRole.LEADER, "c2": MemberRole.REPLICA}
    with pytest.raises(ManagerUnreachable, match="1 of 3 Sentinels answer, 2 must"):
        led.says()
    wrong = SentinelWord(password=lambda _: "s3cret-and-wrong")
    with pytest.raises(ManagerUnreachable, match="refused the password") as refused:
        wrong.report(led.service)
    assert "s3cret" not in str(refused.value)


@pytest.mark.full
def test_a_failover_of_sentinel_is_followed_by_the_balancer(led: Led) -> None:
    haproxy = FakeBalancer({("cache_write", n): ServerState.READY for n in ("c1", "c2")})
    wanted = FakeWantedServers()
    balancer = LoadBalancer({"lb": haproxy}, wanted, SYSTEM_CLOCK)
    follower = LedFollower(
        platform=platform(led.service),
        word=WORD,
        servers=RedisInfo(lambda _: PASSWORD),
        wanted=wanted,
        router=TrafficRouter(balancer),
        clock=SYSTEM_CLOCK,
    )

    def serves(node: str) -> bool:
        follower.look()
        return [n for n, s in haproxy.states("cache_write").items() if s == "ready"] == [node]

    awaited(lambda: serves("c1"))
    led.servers["c1"].stop()
    awaited(lambda: serves("c2"))

    awaited(lambda: [m.state for m in led.says().members][1:] != ["streaming"])
    assert led.says().leader == "c2"


def test_a_service_without_sentinels_cannot_be_asked() -> None:
    with pytest.raises(UsageError, match=r"\[services\.cache\.sentinel\]"):
        WORD.report(service_at(1, 2))
