"""A Redis that Sentinel leads: never acted on, told about, and followed by the balancer alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ha_tasks.cli import led_by_others as shown
from ha_tasks.cli.lines import text_of
from ha_tasks.errors import ManagerUnreachable, Refused, ServiceUnreachable
from ha_tasks.failover.load_balancer import LoadBalancer, backends_of_others
from ha_tasks.failover.traffic_router import TrafficRouter
from ha_tasks.model.balancer import ServerState
from ha_tasks.model.led_by_others import FACT, LedCluster, must_be_ours, not_held
from ha_tasks.model.platform import ManagedBy, Routing, SentinelApi, Service
from ha_tasks.model.redis_replication import RedisReading
from ha_tasks.workflows.led_follow import LedFollower
from tests.fakes.balancer import FakeBalancer
from tests.fakes.clock import FakeClock
from tests.fakes.cluster_manager import FakeClusterManager
from tests.fakes.redis import FakeRedisControl
from tests.fakes.repositories import FakeWantedServers
from tests.unit.builders import at, outcome, platform
from tests.unit.test_redis_replication import HEALTHY, PRIMARY, SECOND, cache

SENTINEL: Service = replace(
    cache(),
    managed_by=ManagedBy.SENTINEL,
    sentinel=SentinelApi(addresses=("127.0.0.1:26379",), name="main"),
    routing=Routing(backend="cache_write", entry="127.0.0.1:6390"),
)


class World:
    def __init__(self, **options):
        self.sentinel, self.clock = FakeClusterManager(("c1", "c2", "c3")), FakeClock()
        self.servers = FakeRedisControl(dict(HEALTHY))
        ready = {("cache_write", name): ServerState.READY for name in HEALTHY}
        self.haproxy = FakeBalancer(ready)
        self.wanted = FakeWantedServers()
        everything = platform(SENTINEL)
        theirs = backends_of_others(everything)
        balancer = LoadBalancer({"lb": self.haproxy}, self.wanted, self.clock, theirs=theirs)
        self.balancer = balancer
        self.follower = LedFollower(
            platform=everything,
            word=self.sentinel,
            servers=self.servers,
            wanted=self.wanted,
            router=TrafficRouter(balancer),
            clock=self.clock,
            **options,
        )

    def fails_over(self, node: str) -> None:
        self.sentinel.lead(node)
        self.servers.servers[node] = replace(SECOND, node=node, primary=True)

    def serves(self) -> list[str]:
        return [name for name, state in self.haproxy.states("cache_write").items() if state == "ready"]


def test_clients_are_led_to_whom_sentinel_names_and_nowhere_else():
    world = World()
    world.follower.look()
    before = world.serves()
    world.fails_over("c3")
    world.follower.look()

    assert (before, world.serves()) == (["c1"], ["c3"])


def test_what_is_led_already_is_not_written_again():
    world = World()
    world.follower.look()
    written = world.wanted.generation
    world.follower.look()

    assert world.wanted.generation == written


def test_a_balancer_that_was_reloaded_is_led_there_again():
    world = World()
    world.follower.look()
    world.haproxy.reload()
    world.balancer.reconcile()

    assert world.serves() == ["c1"]


def test_a_server_that_says_it_is_no_primary_gets_no_clients_whoever_names_it():
    world = World()
    world.follower.look()
    world.sentinel.lead("c2")
    world.follower.look()

    assert world.serves() == ["c1"]


def test_silence_of_sentinel_or_of_the_one_it_names_changes_nothing():
    world = World()
    world.follower.look()
    world.fails_over("c2")
    world.servers.away.add("c2")
    with pytest.raises(ServiceUnreachable):
        world.follower.look()
    world.sentinel.reachable = False
    with pytest.raises(ManagerUnreachable):
        world.follower.look()

    assert world.serves() == ["c1"]


def test_a_leader_that_is_down_or_not_of_the_inventory_is_not_followed():
    world = World()
    word = world.sentinel.cluster
    leader = word.members[0]
    world.follower.look()
    for changed in (replace(leader, name="c9"), replace(leader, name="c2", state="down")):
        world.sentinel.cluster = LedCluster(leader=changed.name, members=(changed, *word.members[1:]))
        world.follower.look()

    assert world.serves() == ["c1"]


@pytest.mark.parametrize("why", [{"held": lambda: "the store is held"}, {"stopped": lambda _: True}])
def test_a_store_that_is_held_and_a_person_who_stops_us_are_obeyed(why):
    world = World(**why)
    world.fails_over("c2")
    world.follower.look()

    assert world.serves() == ["c1", "c2", "c3"]


class Sleeper(FakeRedisControl):
    """Answers at once, by a process that sleeps for a minute before it goes on."""

    clock: FakeClock

    def reading(self, service, node, *, timeout_s=1.0) -> RedisReading:
        self.clock.advance(60)
        return PRIMARY


def test_who_slept_since_it_asked_does_not_use_the_answer():
    world = World()
    world.follower._servers = sleeper = Sleeper()
    sleeper.clock = world.clock
    world.follower.look()

    assert world.serves() == ["c1", "c2", "c3"]


def test_nothing_of_ours_may_change_it_and_the_refusal_says_who_may():
    with pytest.raises(Refused, match=r"led by Sentinel.*SENTINEL FAILOVER main"):
        must_be_ours(SENTINEL)
    assert not_held([SENTINEL]) == (
        "cache is led by Sentinel, which is not held by this: it fails cache over all the same",
    )


def test_status_shows_whom_sentinel_names():
    word = FakeClusterManager(("c1", "c2", "c3")).cluster
    seen = [outcome("c1", 0, service="cache", **{FACT: word.to_json()})]
    led = shown.described(SENTINEL, seen, at(1))

    assert led["writable"] == "c1"
    assert shown.role_of("c1", led) == "primary"
    said = [text_of(line) for line in shown.lines("cache", led)]
    assert said[0].startswith("cache: led by Sentinel, the balancer follows it; leader c1 running")
    silent = [text_of(line) for line in shown.lines("cache", shown.described(SENTINEL, [], at(1)))]
    assert silent[-1] == "cache: Sentinel does not answer"
