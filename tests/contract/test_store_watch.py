"""The watch over the store: on all three stores, with the agents of a toy cluster that remember more."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

from ha_tasks.errors import AgentUnreachable, Refused, UsageError
from ha_tasks.failover.load_balancer import LoadBalancer
from ha_tasks.failover.traffic_router import TrafficRouter
from ha_tasks.model.balancer import ServerState
from ha_tasks.model.cluster import Cluster, ClusterState, sync_set_of
from ha_tasks.model.run import Phase, RunState
from ha_tasks.names import STORE_WATCH
from ha_tasks.ports.host import Authority
from ha_tasks.store import Store
from ha_tasks.store.identity import give_identity
from ha_tasks.workflows.cluster_moves import PostgresTools
from ha_tasks.workflows.reconcile import Reconciler
from ha_tasks.workflows.store_approval import StoreApproval
from ha_tasks.workflows.store_watch import AgentMemory, StoreWatch
from tests.contract.conftest import AnyStore
from tests.fakes.balancer import FakeBalancer
from tests.fakes.clock import FakeClock
from tests.fakes.identity import FakeServedStore
from tests.fakes.toy_cluster import ToyCluster
from tests.plans import on_scope
from tests.unit.builders import database, platform

READY, MAINT = ServerState.READY, ServerState.MAINT
NODES = ("pg1", "pg2", "pg3")


class NoUnits:
    """Hosts without units."""

    def unit_status(self, host: str, unit: str, *, timeout_s: float = 1.0) -> dict[str, Any]:
        raise AgentUnreachable(f"there is no host {host}")

    def restart_unit(self, *_: object, **__: object) -> dict[str, Any]:
        raise AgentUnreachable("there is no host")


class House:
    """A store, a toy cluster led by it, and the processes that watch."""

    def __init__(self, store: AnyStore) -> None:
        self.store, self.toy, self.clock = store, ToyCluster(), FakeClock()
        self.service = database()
        self.platform = platform(self.service)
        states = {("pg_write", n): READY if n == "pg1" else MAINT for n in NODES}
        states |= {("pg_read", n): MAINT if n == "pg1" else READY for n in NODES}
        self.haproxy = FakeBalancer(states)
        store.wanted.want(states, "at first", self.clock.now())
        balancer = LoadBalancer({"edge": self.haproxy}, self.store.wanted, self.clock)
        self.tools = PostgresTools(
            clusters=store.clusters,
            agents=self.toy,
            control=self.toy,
            balancer=balancer,
            router=TrafficRouter(balancer),
            wanted=store.wanted,
            clock=self.clock,
        )
        self.memory = AgentMemory(platform=self.platform, nodes=self.toy, units=NoUnits())
        self.served = FakeServedStore()
        self.watch = self.process()
        self.balancer = balancer

    def process(self, served: FakeServedStore | None = None) -> StoreWatch:
        """The watch of another process, of this home or another."""
        return StoreWatch(
            memory=self.memory,
            identity=self.store.identity,
            limits=self.store.limits,
            served=served or self.served,
            clock=self.clock,
            actor="host/w1",
        )

    def approval(self) -> StoreApproval:
        return StoreApproval(
            platform=self.platform,
            tools=self.tools,
            memory=self.memory,
            watch=self.watch,
            identity=self.store.identity,
            journal=self.store.journal,
        )

    def reconciler(self) -> Reconciler:
        return Reconciler(
            platform=self.platform,
            balancer=self.balancer,
            tools=self.tools,
            journal=self.store.journal,
            ledger=self.store.ledger,
            incidents=self.store.incidents,
            actor="host/w1",
            held=self.watch.held,
        )

    def in_care(self, epoch: int = 3, fence: int = 60) -> None:
        """pg1 leads in that epoch, as the store says and every agent knows."""
        self.store.clusters.register(cluster(epoch), self.clock.now())
        self.store.journal.raise_fence(fence)
        self.obeyed(epoch, fence, *NODES)

    def obeyed(self, epoch: int, fence: int, *nodes: str) -> None:
        for node in nodes:
            self.toy.nodes[node].epoch = (epoch, fence)

    def failed_over(self, epoch: int = 4, fence: int = 75) -> None:
        """What happened after the backup of this store: pg2 was promoted, pg1 and pg3 follow it."""
        by = Authority(epoch=epoch, fence=fence)
        self.toy.promote("pg2", "ANY 1 (pg1, pg3)", by)
        self.toy.nodes["pg1"].primary = False
        for node in ("pg1", "pg3"):
            self.toy.nodes[node].upstream = "pg2"
            self.toy.nodes[node].epoch = (epoch, fence)
        self.toy.behind_entry = "pg2"


def cluster(epoch: int) -> Cluster:
    return Cluster(
        name="db",
        epoch=epoch,
        primary="pg1",
        state=ClusterState.STEADY,
        sets=(sync_set_of(["pg2", "pg3"]),),
    )


@pytest.fixture
def house(store: AnyStore) -> House:
    if isinstance(store, Store):
        with store._database.writing() as connection:
            give_identity(connection)
    return House(store)


def test_a_fresh_installation_needs_no_ceremony(house: House):
    assert house.watch.held() is None
    assert house.served.last() == house.store.identity.read().store_id
    house.in_care()
    assert house.watch.held() is None
    assert house.store.limits.switch("observe") is None


def test_a_store_that_is_older_than_its_agents_is_held_and_everybody_is_told(house: House):
    house.in_care()
    house.failed_over()

    reason = house.watch.look()

    assert reason is not None
    assert "db was led in epoch 4, and here it is 3" in reason
    assert house.store.identity.read().held == reason
    assert house.store.limits.switch("observe") == STORE_WATCH


def test_one_agent_that_remembers_is_enough_and_its_silence_afterwards_changes_nothing(house: House):
    house.in_care()
    house.obeyed(4, 70, "pg3")
    assert house.watch.look() is not None

    house.toy.nodes["pg3"].agent = False

    assert house.watch.look() is not None
    assert house.process().held() is not None


def test_a_fence_alone_tells_an_old_store(house: House):
    house.in_care(fence=60)
    house.obeyed(3, 61, "pg1")

    assert "fence 61 was given" in str(house.watch.look())


def test_a_store_that_goes_back_under_a_running_process_is_noticed_without_agents(house: House):
    house.in_care(epoch=3)
    house.watch.look()
    house.store.clusters.advance("db", 3, house.clock.now(), new_epoch=True)
    assert house.watch.held() is None
    _go_back(house.store, cluster(3))
    for node in house.toy.nodes.values():
        node.agent = False

    assert "db was led in epoch 4, and here it is 3" in str(house.watch.held())


def _go_back(store: AnyStore, older: Cluster) -> None:
    """The row as a backup has it."""
    if not isinstance(store, Store):
        store.clusters.clusters[older.name] = older
        return
    from ha_tasks.store.tables import cluster as clusters

    with store._database.writing() as connection:
        connection.execute(clusters.update().where(clusters.c.name == older.name).values(epoch=older.epoch))


def test_an_empty_store_in_the_place_of_the_one_that_was_served_is_held(house: House):
    served = FakeServedStore("the-one-before")

    reason = house.process(served).held()

    assert "not the one that was served here (the-one-before before" in str(reason)
    assert house.store.identity.read().strangers == {"the-one-before"}
    assert served.last() == "the-one-before"


def test_what_another_process_has_found_holds_this_one_at_once(house: House):
    house.in_care()
    assert house.watch.held() is None

    house.store.identity.witness({"db": 9}, 0)

    assert house.watch.held() is not None


def test_what_a_person_has_switched_off_stays_switched_off(house: House):
    house.in_care()
    house.store.limits.set_switch("observe", True, "anna", "I look", house.clock.now())
    house.obeyed(4, 70, "pg3")
    house.watch.look()
    house.approval().approve("ben")

    assert house.store.limits.switch("observe") == "anna"


def test_by_a_store_that_is_held_no_balancer_is_set_and_nobody_is_pointed_anywhere(house: House):
    house.in_care()
    house.failed_over()
    for node in house.toy.nodes.values():
        node.log.clear()
    house.haproxy.set_state("pg_write", "pg1", MAINT)
    house.watch.look()

    assert house.reconciler().balancers() == ()
    house.reconciler().clusters()

    assert house.haproxy.states("pg_write")["pg1"] == "maint"
    assert [node.log for node in house.toy.nodes.values()] == [[], [], []]


def test_an_approval_leads_the_cluster_as_its_servers_show_it_above_all_that_was_seen(house: House):
    house.in_care()
    house.failed_over(epoch=7, fence=95)
    house.obeyed(9, 20, "pg3")
    assert house.watch.look() is not None

    done = house.approval().approve("anna")

    led = house.store.clusters.get("db")
    assert done.clusters == (led,)
    assert (led.epoch, led.primary, led.state) == (10, "pg2", ClusterState.STEADY)
    assert led.sets == (sync_set_of(["pg1", "pg3"]),)
    assert house.toy.nodes["pg2"].epoch == (10, 96)
    assert house.haproxy.states("pg_write") == {"pg1": "maint", "pg2": "ready", "pg3": "maint"}
    assert house.watch.held() is None
    assert house.store.limits.switch("observe") is None
    assert house.store.identity.read().held == ""


def test_an_approved_store_takes_the_place_of_the_one_that_a_home_has_served(house: House):
    house.served.remember("the-one-before")
    house.watch.look()

    house.approval().approve("anna")

    assert house.watch.held() is None
    assert house.served.last() == house.store.identity.read().store_id
    assert house.process(FakeServedStore("the-one-before")).held() is None
    assert house.process(FakeServedStore("quite-another")).held() is not None


def test_a_lost_store_finds_its_cluster_again(house: House):
    house.obeyed(6, 80, *NODES)
    assert "db was led in epoch 6, and here it is not recorded" in str(house.watch.look())

    house.approval().approve("anna")

    led = house.store.clusters.get("db")
    assert (led.epoch, led.primary) == (7, "pg1")
    assert house.store.journal.next_fence(house.clock.now()) > 80


@pytest.mark.parametrize(
    ("silent", "primaries", "without", "said"),
    [
        (("pg3",), ("pg2",), (), "pg3: the agent does not answer.*--without pg3"),
        ((), ("pg1", "pg2"), (), "pg1 and pg2 of db both take writes"),
        ((), (), (), "no node of db takes writes"),
        (("pg1", "pg3"), ("pg2",), ("pg1", "pg3"), "no standby of db streams from pg2"),
    ],
)
def test_an_approval_that_would_guess_is_refused_and_changes_nothing(
    house: House,
    silent: Collection[str],
    primaries: Collection[str],
    without: Collection[str],
    said: str,
):
    house.in_care()
    house.failed_over()
    for name, node in house.toy.nodes.items():
        node.agent = name not in silent
        node.primary = name in primaries

    with pytest.raises(Refused, match=said):
        house.approval().approve("anna", without)

    assert house.store.clusters.get("db") == cluster(3)
    assert house.watch.look() is not None


def test_an_agent_that_is_gone_for_good_can_be_left_out_by_name(house: House):
    house.in_care()
    house.failed_over()
    house.toy.nodes["pg3"].agent = False

    house.approval().approve("anna", ["pg3"])

    led = house.store.clusters.get("db")
    assert (led.primary, led.sets) == ("pg2", (sync_set_of(["pg1"]),))


@pytest.mark.parametrize(
    ("without", "said"),
    [("pg33", 'there is no agent "pg33"; did you mean "pg3"'), ("pg1", "the agent of pg1 answers")],
)
def test_only_an_agent_that_is_silent_can_be_left_out(house: House, without: str, said: str):
    house.in_care()
    house.failed_over()

    with pytest.raises(UsageError, match=said):
        house.approval().approve("anna", [without])

    assert house.store.clusters.get("db") == cluster(3)


def test_a_store_that_is_trusted_is_not_approved_and_its_runs_go_on(house: House):
    house.in_care()
    run, _ = house.store.journal.create(on_scope("db", key="of-now"), house.clock.now())

    with pytest.raises(Refused, match="trusted already"):
        house.approval().approve("anna")

    assert house.store.journal.get(run.id).ended_at is None
    assert house.store.clusters.get("db") == cluster(3)


def test_runs_that_an_old_store_has_under_way_are_ended_by_the_approval(house: House):
    house.in_care()
    run, _ = house.store.journal.create(on_scope("db", key="of-then"), house.clock.now())
    house.store.journal.claim(run.id, 1, Phase.DO, owner="gone", now=house.clock.now(), lease_s=3)
    house.failed_over()

    done = house.approval().approve("anna")

    ended = house.store.journal.get(run.id)
    assert (done.ended, done.left) == ((run.id,), ())
    assert (ended.state, ended.error) == (RunState.ABORTED, "ended by anna: the store was approved anew")


def test_an_approval_that_was_interrupted_keeps_the_store_held_until_it_is_ended(house: House):
    """It died after the epoch was raised: no number tells any more that nobody knows who is primary."""
    house.in_care()
    house.failed_over()
    house.store.identity.approving("anna")
    house.store.identity.seat(cluster(5), house.clock.now())
    house.store.journal.raise_fence(80)

    assert "an approval that anna began has not ended" in str(house.process().held())
    house.approval().approve("ben")
    assert house.watch.held() is None
    assert house.store.clusters.get("db").primary == "pg2"


def test_the_standing_says_the_numbers_beside_each_other(house: House):
    house.in_care()
    house.failed_over()
    house.toy.nodes["pg1"].agent = False

    told = house.approval().standing().to_json()

    assert (told["trusted"], told["fence"], told["fence_seen"]) == (False, 60, 75)
    assert told["clusters"] == [{"name": "db", "epoch": 3, "epoch_seen": 4}]
    assert told["silent"] == ["pg1"]
    assert "ha-tasks store approve" in told["reason"]
