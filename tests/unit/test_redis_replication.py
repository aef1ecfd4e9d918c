"""Who leads a replicated Redis, who could, and what would be lost: rules over what its servers say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_tasks.cli.lines import text_of
from ha_tasks.cli.replication import lines
from ha_tasks.disaster_recovery.data_replication import DataReplication
from ha_tasks.model.incident import IncidentKind, IncidentState
from ha_tasks.model.platform import Instance, RedisSettings, Role, Service, ServiceKind
from ha_tasks.model.redis_replication import LAG_BYTES, RedisReading, choose_replica, report
from ha_tasks.model.replication_findings import FindingCode
from ha_tasks.workflows.replication_watch import ReplicationWatch
from tests.fakes.clock import FakeClock
from tests.fakes.host import FakeHostAgents
from tests.fakes.postgres import FakePostgresControl
from tests.fakes.redis import FakeRedisControl
from tests.fakes.repositories import FakeStore

OLD, NEW = "a" * 40, "b" * 40
PRIMARY = RedisReading(node="c1", primary=True, replid=OLD, offset=1000, guarded=True)
SECOND = RedisReading(node="c2", primary=False, replid=OLD, offset=1000, link_up=True, heard_s=0.0)
THIRD = replace(SECOND, node="c3", offset=900)
HEALTHY = {"c1": PRIMARY, "c2": SECOND, "c3": THIRD}

readings = st.builds(
    RedisReading,
    node=st.sampled_from(["c1", "c2", "c3", "c4"]),
    primary=st.booleans(),
    replid=st.sampled_from([OLD, NEW]),
    offset=st.integers(0, 5000),
    link_up=st.booleans(),
    syncing=st.booleans(),
    guarded=st.booleans(),
    priority=st.sampled_from([0, 50, 100]),
    cluster=st.booleans(),
)
answers = st.dictionaries(
    st.sampled_from(["c1", "c2", "c3", "c4"]), readings | st.just("no answer in time"), min_size=1
).map(lambda found: {n: replace(r, node=n) if isinstance(r, RedisReading) else r for n, r in found.items()})


def codes(found) -> set[FindingCode]:
    return {finding.code for finding in report("cache", found).findings}


@given(answers)
def test_nobody_is_chosen_who_lacks_what_another_able_replica_of_the_history_has(found):
    said = [r for r in found.values() if isinstance(r, RedisReading)]
    choice = choose_replica(said)

    if choice.node:
        chosen = found[choice.node]
        assert chosen in [r for r in said if not r.primary and not r.syncing]
        assert chosen.priority > 0
        whole = [r for r in said if not r.primary and not r.syncing]
        assert {r.replid for r in whole} == {chosen.replid}
        assert all(r.offset <= chosen.offset for r in whole if r.priority > 0)
    else:
        assert choice.why


@given(answers)
def test_a_loss_is_never_called_proven_and_its_amount_is_what_the_best_follower_lacks(found):
    risk = report("cache", found).risk

    assert risk.certainty in ("measured", "unknown")
    assert (risk.bytes is None) == (risk.certainty == "unknown")
    if risk.bytes is not None:
        (primary,) = [r for r in found.values() if isinstance(r, RedisReading) and r.primary]
        assert 0 <= risk.bytes <= primary.offset
        assert risk.seconds == (None if risk.bytes else 0.0)


@given(answers)
def test_it_is_well_only_with_one_primary_that_everybody_else_follows(found):
    judged = report("cache", found)

    primaries = [r for r in found.values() if isinstance(r, RedisReading) and r.primary]
    assert not (judged.ok and len(primaries) != 1)
    assert not (judged.ok and any(isinstance(r, str) for r in found.values()))


@given(answers)
def test_who_chooses_does_not_depend_on_the_order_in_which_they_answered(found):
    said = [r for r in found.values() if isinstance(r, RedisReading)]

    assert choose_replica(said) == choose_replica(list(reversed(said)))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, None),
        ({"c2": "no answer in time"}, FindingCode.SILENT),
        ({"c2": replace(SECOND, primary=True, replid=NEW, guarded=True)}, FindingCode.TWO_PRIMARIES),
        ({"c1": "it did not answer"}, FindingCode.NOBODY_WRITES),
        ({"c1": replace(PRIMARY, guarded=False)}, FindingCode.UNGUARDED),
        ({"c2": replace(SECOND, link_up=False)}, FindingCode.LINK_DOWN),
        ({"c2": replace(SECOND, replid=NEW)}, FindingCode.LINK_DOWN),
        ({"c2": replace(SECOND, syncing=True)}, FindingCode.LINK_DOWN),
        ({"c1": replace(PRIMARY, offset=LAG_BYTES + 1001)}, FindingCode.LAG),
        ({"c1": replace(PRIMARY, cluster=True)}, FindingCode.CLUSTER_MODE),
    ],
)
def test_what_is_wrong_is_found(change, code):
    found = codes({**HEALTHY, **change})

    assert code in found if code else found == set()


def test_of_two_histories_nobody_is_named_and_the_reason_is_told():
    found = {"c1": "gone", "c2": replace(SECOND, link_up=False), "c3": replace(THIRD, replid=NEW)}

    (nobody,) = [f for f in report("cache", found).findings if f.code is FindingCode.NOBODY_WRITES]
    assert "nobody can be promoted" in nobody.remedy
    assert "c2 aaaaaaaa, c3 bbbbbbbb" in nobody.remedy


def test_without_a_primary_the_furthest_replica_is_named_and_no_loss_is_denied():
    found = {"c1": "gone", "c2": replace(SECOND, link_up=False), "c3": replace(THIRD, link_up=False)}

    (nobody,) = [f for f in report("cache", found).findings if f.code is FindingCode.NOBODY_WRITES]
    assert "on c2 (the furthest of 2, at offset 1000): REPLICAOF NO ONE" in nobody.remedy
    assert "is lost, and unknown" in nobody.remedy


@pytest.mark.parametrize(
    "change", [{"c1": "gone"}, {"c2": replace(SECOND, primary=True, replid=NEW)}], ids=["nobody", "two"]
)
def test_where_somebody_else_promotes_no_remedy_has_a_person_do_it_beside_him(change):
    found = report("cache", {**HEALTHY, **change}, led="led by Sentinel: wait").findings

    assert "led by Sentinel: wait" in {finding.remedy for finding in found}
    assert not any("REPLICAOF" in finding.remedy for finding in found)


def cache() -> Service:
    nodes = tuple(
        Instance(name=n, service="cache", host="h", address=f"127.0.0.1:{6000 + i}", role=Role.ACTIVE)
        for i, n in enumerate(HEALTHY)
    )
    settings = RedisSettings(replicated=True)
    return Service(name="cache", kind=ServiceKind.REDIS, instances=nodes, redis=settings)


class World:
    def __init__(self):
        self.store, self.clock, self.servers = FakeStore(), FakeClock(), FakeRedisControl(dict(HEALTHY))
        self.replication = DataReplication(
            control=FakePostgresControl({}),
            clusters=self.store.clusters,
            agents=FakeHostAgents(primary="pg1", others=[]),
            redis=self.servers,
        )
        self.watch = ReplicationWatch(
            replication=self.replication,
            book=self.store.replication,
            incidents=self.store.incidents,
            journal=self.store.journal,
            ledger=self.store.ledger,
            clock=self.clock,
            actor="h/test",
        )

    def looks(self, *seconds):
        for after in seconds:
            self.clock.advance(after)
            self.watch.look(cache())

    def shown(self) -> list[str]:
        picture = {**self.replication.check(cache()).to_json(), "rpo_s": 0.0}
        return [text_of(line) for line in lines({"clusters": [picture]})]


def test_a_person_is_told_once_that_nobody_writes_and_it_ends_when_somebody_does():
    world = World()
    world.servers.away.add("c1")
    world.looks(10, 10, 10, 10)
    told = world.store.incidents.recent(10)
    world.servers.away.clear()
    world.looks(10)

    (incident,) = told
    assert (incident.kind, incident.severity) == (IncidentKind.REPLICATION_FAULT, "critical")
    assert "nobody takes writes" in incident.summary
    assert [i.state for i in world.store.incidents.recent(10)] == [IncidentState.RESOLVED]


def test_the_picture_in_a_few_lines():
    world = World()
    world.servers.write("c1", 24)
    shown = world.shown()

    assert shown[0] == "cache: asynchronous, by the servers themselves"
    assert shown[1].startswith("RPO at risk: 0 B of 0.0 s (c2 would be promoted; asynchronous")
    assert [line.split()[:5] for line in shown[3:6]] == [
        ["c1", "primary", "1024"],
        ["c2", "replica", "follows", "c1", "1024"],
        ["c3", "replica", "follows", "c1", "924"],
    ]
    assert shown[-1] == "nothing is wrong"


def test_who_is_silent_and_who_lost_its_link_are_seen():
    world = World()
    world.servers.away.add("c3")
    world.servers.servers["c2"] = replace(SECOND, link_up=False)
    shown = "\n".join(world.shown())

    assert "c2    replica  follows nobody" in shown
    assert "c3    silent" in shown
    assert "RPO at risk: not known (no replica follows c1)" in shown
