"""The contract of cool-downs, switches, refusals, clusters and wanted servers: on all three stores."""

from __future__ import annotations

import pytest

from ha_tasks.errors import StaleEpoch, StaleFence
from ha_tasks.model.balancer import ServerState
from ha_tasks.model.cluster import Cluster, ClusterState, SyncSet, Unfinished, sync_set_of
from ha_tasks.model.run import Outcome, Run, after
from ha_tasks.ports.repositories import Reign, Warrant
from tests.contract.conftest import AnyStore
from tests.contract.test_repositories_incidents import opened
from tests.plans import NOW, at, new_run


def test_a_cool_down_is_of_one_scope_and_playbook(store: AnyStore):
    store.limits.cool("db", "failover", at(600))

    assert store.limits.cooling("db", "failover") == at(600)
    assert store.limits.cooling("db", "rejoin") is None
    assert store.limits.cooling("web", "failover") is None


def test_an_acknowledgement_ends_every_cool_down_of_its_scope(store: AnyStore):
    store.limits.cool("db", "rejoin", at(600))
    store.limits.cool("db", "failover", at(300))
    store.limits.cool("db", "over by itself", at(5))
    store.limits.cool("web", "restart", at(600))

    assert store.limits.acknowledge("db", at(10), "anna") == ("failover", "rejoin")

    assert store.limits.cooling("db", "failover") is None
    assert store.limits.cooling("web", "restart") == at(600)
    assert store.limits.acknowledge("db", at(11), "anna") == ()


def test_a_cool_down_that_was_acknowledged_can_begin_anew(store: AnyStore):
    store.limits.cool("db", "failover", at(300))
    store.limits.acknowledge("db", at(10), "anna")

    store.limits.cool("db", "failover", at(900))

    assert store.limits.cooling("db", "failover") == at(900)


def test_a_switch_says_who_engaged_it(store: AnyStore):
    assert store.limits.switch("stop") is None
    store.limits.set_switch("stop", True, "anna", "maintenance of the racks", NOW)
    assert store.limits.switch("stop") == "anna"
    assert store.limits.switch("observe") is None
    store.limits.set_switch("stop", False, "ben", "done", at(60))
    assert store.limits.switch("stop") is None


def test_a_refusal_is_new_once_per_incident_and_guard(store: AnyStore):
    first = opened(store.incidents, key="first").id
    second = opened(store.incidents, key="second").id

    new = [
        store.limits.refused(first, "cool_down", "600 s left", at(1)),
        store.limits.refused(first, "cool_down", "599 s left", at(2)),
        store.limits.refused(first, "blind", "no vantages", at(3)),
        store.limits.refused(second, "cool_down", "598 s left", at(3)),
    ]

    assert new == [True, False, True, True]


def test_the_guard_that_refused_latest_is_known(store: AnyStore):
    incident = opened(store.incidents).id
    before = store.limits.last_refusal(incident)
    said = []
    for second, guard in enumerate(["cool_down", "maintenance", "cool_down"]):
        store.limits.refused(incident, guard, "no", at(second))
        said.append(store.limits.last_refusal(incident))

    assert before is None
    assert said == ["cool_down", "maintenance", "cool_down"]


CLUSTER = Cluster(
    name="db",
    epoch=1,
    primary="pg1",
    state=ClusterState.STEADY,
    sets=(sync_set_of(["pg2", "pg3"]),),
)


def test_a_cluster_is_registered_once(store: AnyStore):
    with pytest.raises(KeyError):
        store.clusters.get("db")

    assert store.clusters.register(CLUSTER, NOW) == CLUSTER
    other = Cluster(name="db", epoch=7, primary="pg3", state=ClusterState.PAUSED, sets=())
    assert store.clusters.register(other, at(1)) == CLUSTER
    assert store.clusters.get("db") == CLUSTER


def test_a_cluster_changes_only_at_the_expected_epoch(store: AnyStore):
    store.clusters.register(CLUSTER, NOW)

    opened_epoch = store.clusters.advance("db", 1, at(1), new_epoch=True, state=ClusterState.FAILING)

    assert (opened_epoch.epoch, opened_epoch.state) == (2, ClusterState.FAILING)
    assert (opened_epoch.primary, opened_epoch.sets) == (CLUSTER.primary, CLUSTER.sets)
    with pytest.raises(StaleEpoch, match="epoch 2, not 1"):
        store.clusters.advance("db", 1, at(2), new_epoch=True)
    with pytest.raises(StaleEpoch):
        store.clusters.advance("db", 3, at(2), new_epoch=False)
    assert store.clusters.get("db") == opened_epoch


def test_what_is_given_is_changed_and_what_is_none_is_left(store: AnyStore):
    store.clusters.register(CLUSTER, NOW)
    unfinished = Unfinished(epoch=1, candidate="pg2", sync_set=SyncSet(quorum=1, members=("pg3", "pg1")))
    sets = (sync_set_of(["pg2", "pg3"]), sync_set_of(["pg3"]), sync_set_of([]))

    store.clusters.advance("db", 1, at(1), new_epoch=False, sets=sets, unfinished=[unfinished])
    store.clusters.advance("db", 1, at(2), new_epoch=False, primary="pg2")

    now = store.clusters.get("db")
    assert (now.epoch, now.primary, now.state) == (1, "pg2", ClusterState.STEADY)
    assert (now.sets, now.unfinished) == (sets, (unfinished,))
    cleared = store.clusters.advance("db", 1, at(3), new_epoch=False, sets=[], unfinished=[])
    assert (cleared.sets, cleared.unfinished) == ((), ())


def test_a_cluster_that_is_not_there_cannot_advance(store: AnyStore):
    with pytest.raises(KeyError):
        store.clusters.advance("db", 1, NOW, new_epoch=True)


def test_what_a_run_wants_is_refused_once_another_executor_has_taken_it_over(store: AnyStore):
    """A zombie that wakes after its run has ended must not take a server out for good."""
    run, _ = store.journal.create(new_run(), NOW)
    first = store.journal.claim(run.id, 1, run.phase, owner="zombie", now=NOW, lease_s=3)
    store.wanted.want({("web", "web1"): ServerState.MAINT}, "dead", NOW, warrant(first))
    second = store.journal.claim(run.id, 1, run.phase, owner="heir", now=at(4), lease_s=3)
    store.wanted.want({("web", "web1"): ServerState.READY}, "restarted", at(4), warrant(second))

    with pytest.raises(StaleFence):
        store.wanted.want({("web", "web1"): ServerState.MAINT}, "dead", at(5), warrant(first))

    assert [w.state for w in store.wanted.all()] == [ServerState.READY]


def test_what_a_run_wants_is_refused_once_its_claim_is_settled(store: AnyStore):
    run, _ = store.journal.create(new_run(), NOW)
    claimed = store.journal.claim(run.id, 1, run.phase, owner="w1", now=NOW, lease_s=3)
    moved = after(claimed, Outcome(ok=True), at(1))
    store.journal.settle(claimed, moved, claimed.fence, outcome="ok", error="", due=None)

    with pytest.raises(StaleFence):
        store.wanted.want({("web", "web1"): ServerState.MAINT}, "dead", at(2), warrant(claimed))

    assert store.wanted.all() == ()


def test_who_keeps_a_cluster_as_recorded_changes_nothing_once_it_has_moved_on(store: AnyStore):
    store.clusters.register(CLUSTER, NOW)
    seen = Reign(cluster=CLUSTER.name, epoch=CLUSTER.epoch)
    store.wanted.want({("pg_write", "pg1"): ServerState.READY}, "as recorded", at(1), seen)
    store.clusters.advance(CLUSTER.name, CLUSTER.epoch, at(2), new_epoch=True)

    with pytest.raises(StaleEpoch):
        store.wanted.want({("pg_write", "pg1"): ServerState.MAINT}, "as recorded", at(3), seen)

    assert [(w.server, w.state) for w in store.wanted.all()] == [("pg1", ServerState.READY)]


def warrant(run: Run) -> Warrant:
    return Warrant(run=run.id, fence=run.fence)


def test_wanted_servers_are_set_together_under_one_generation(store: AnyStore):
    assert store.wanted.all() == ()

    store.wanted.want(
        {("web", "web3"): ServerState.READY, ("web", "web1"): ServerState.MAINT}, "web1 is dead", NOW
    )
    wanted = store.wanted.want({("web", "web1"): ServerState.READY}, "web1 is back", at(9))

    assert [(w.backend, w.server, w.state, w.generation, w.reason) for w in wanted] == [
        ("web", "web1", ServerState.READY, 2, "web1 is back"),
        ("web", "web3", ServerState.READY, 1, "web1 is dead"),
    ]
    assert store.wanted.all() == wanted


def test_no_change_is_no_generation(store: AnyStore):
    store.wanted.want({}, "nothing", NOW)
    wanted = store.wanted.want({("web", "web1"): ServerState.DRAIN}, "slowly", NOW)

    assert [w.generation for w in wanted] == [1]


def test_the_newest_picture_of_a_clusters_replication_is_kept(store: AnyStore):
    store.replication.put("db", {"ok": True, "nodes": [{"node": "pg1", "lag_s": None}]}, at(2))
    store.replication.put("db", {"ok": False}, at(1))
    store.replication.put("other", {"ok": False}, at(1))
    store.replication.put("other", {"ok": True}, at(3))

    assert store.replication.latest() == {
        "db": (at(2), {"ok": True, "nodes": [{"node": "pg1", "lag_s": None}]}),
        "other": (at(3), {"ok": True}),
    }


def test_the_newest_look_at_the_systems_health_is_kept(store: AnyStore):
    assert store.health.latest() is None

    store.health.put({"is_healthy": True, "diagnostics": [{"score": None}]}, at(2))
    store.health.put({"is_healthy": False}, at(1))

    assert store.health.latest() == (at(2), {"is_healthy": True, "diagnostics": [{"score": None}]})

    store.health.put({"is_healthy": False}, at(3))

    assert store.health.latest() == (at(3), {"is_healthy": False})


def test_reports_of_drills_are_kept_newest_first(store: AnyStore):
    numbers = [
        store.drills.add("lose-primary", verdict, {"verdict": verdict, "lost": None}, at(second))
        for second, verdict in enumerate(["FAIL", "PASS"])
    ]

    assert numbers == [numbers[0], numbers[0] + 1]
    assert store.drills.latest() == (
        (numbers[1], at(1), {"verdict": "PASS", "lost": None}),
        (numbers[0], at(0), {"verdict": "FAIL", "lost": None}),
    )
    assert len(store.drills.latest(limit=1)) == 1
