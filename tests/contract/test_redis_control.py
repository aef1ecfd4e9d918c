"""One contract for asking Redis servers: the fake, and two real servers of which one follows the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from ha_tasks.adapters.redis_control import RedisInfo
from ha_tasks.errors import ServiceUnreachable
from ha_tasks.model.platform import Instance, RedisSettings, Role, Service, ServiceKind
from ha_tasks.model.redis_replication import RedisReading, follows, report
from ha_tasks.ports.redis import RedisControl
from tests.fakes.redis import FakeRedisControl
from tests.valkey_server import PASSWORD, ValkeyServer, valkey_server

WITHIN_S = 10.0


def service_at(first: int, second: int) -> Service:
    nodes = tuple(
        Instance(name=name, service="cache", host="h", address=f"127.0.0.1:{port}", role=Role.ACTIVE)
        for name, port in (("c1", first), ("c2", second))
    )
    settings = RedisSettings(replicated=True)
    return Service(name="cache", kind=ServiceKind.REDIS, instances=nodes, redis=settings)


@dataclass
class Pair:
    """c1 leads, c2 follows. ``write`` has the primary take some bytes; ``stop`` ends a node."""

    control: RedisControl
    service: Service
    write: Callable[[], object]
    stop: Callable[[str], object]

    def reading(self, node: str) -> RedisReading:
        return self.control.reading(self.service, self.service.instance(node))


@pytest.fixture
def faked() -> Pair:
    said = {"replid": "a" * 40, "offset": 14}
    servers = FakeRedisControl(
        {
            "c1": RedisReading(node="c1", primary=True, **said),
            "c2": RedisReading(node="c2", primary=False, link_up=True, heard_s=0.0, **said),
        }
    )
    return Pair(
        control=servers,
        service=service_at(1, 2),
        write=lambda: servers.write("c1", 100),
        stop=servers.away.add,
    )


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ValkeyServer, ValkeyServer]]:
    homes = [tmp_path_factory.mktemp(name) for name in ("c1", "c2")]
    with valkey_server(homes[0]) as first, valkey_server(homes[1]) as second:
        yield first, second


@pytest.fixture
def real(servers: tuple[ValkeyServer, ValkeyServer]) -> Pair:
    """A test may have stopped one of them."""
    first, second = servers
    for server in servers:
        if server.process is None:
            server.start()
    with first.client() as client:
        client.config_set("repl-diskless-sync-delay", "0")  # it waits 5 s for more replicas otherwise
    with second.client() as client:
        client.config_set("masterauth", PASSWORD)
        client.replicaof("127.0.0.1", first.port)

    def write() -> None:
        with first.client() as client:
            client.set("key", "v" * 100)

    pair = Pair(
        control=RedisInfo(lambda _: PASSWORD),
        service=service_at(first.port, second.port),
        write=write,
        stop=lambda node: {"c1": first, "c2": second}[node].stop(),
    )
    until(lambda: follows(pair.reading("c2"), pair.reading("c1")))
    return pair


@pytest.fixture(params=["faked", "real"])
def pair(request: pytest.FixtureRequest) -> Pair:
    found: Pair = request.getfixturevalue(request.param)
    return found


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_each_says_its_role_and_both_hold_one_history(pair: Pair):
    first, second = pair.reading("c1"), pair.reading("c2")

    assert (first.primary, second.primary) == (True, False)
    assert follows(second, first)
    assert not second.syncing
    assert not first.cluster


def test_a_write_moves_the_offset_and_the_replica_gets_there(pair: Pair):
    before = pair.reading("c1").offset
    pair.write()
    after = pair.reading("c1").offset

    assert after >= before + 100
    until(lambda: pair.reading("c2").offset >= after)


def test_who_is_away_raises_and_a_replica_without_its_primary_follows_nobody(pair: Pair):
    was = pair.reading("c1")
    pair.stop("c1")

    with pytest.raises(ServiceUnreachable, match=r"c1 at 127\.0\.0\.1:\d+: it did not answer"):
        pair.reading("c1")
    if isinstance(pair.control, RedisInfo):  # the fake's servers know nothing of one another
        until(lambda: not pair.reading("c2").link_up)
        left = pair.reading("c2")
        assert not follows(left, was)
        assert left.replid == was.replid
        assert "REPLICAOF NO ONE" in report("cache", {"c1": "gone", "c2": left}).findings[1].remedy


def test_a_refused_password_is_told_and_not_repeated(servers: tuple[ValkeyServer, ValkeyServer]):
    control, service = RedisInfo(lambda _: "s3cret-and-wrong"), service_at(servers[0].port, servers[1].port)

    with pytest.raises(ServiceUnreachable, match="it refused the password") as caught:
        control.reading(service, service.instance("c2"))
    assert "s3cret" not in str(caught.value)


def test_a_primary_that_waits_for_replicas_says_so(real: Pair, servers: tuple[ValkeyServer, ValkeyServer]):
    bare = real.reading("c1")
    with servers[0].client() as client:
        client.config_set("min-replicas-to-write", "1")
        guarded = real.reading("c1")
        client.config_set("min-replicas-to-write", "0")

    assert (bare.guarded, guarded.guarded) == (False, True)
