"""Every change that somebody could ask about later is in the audit chain: on all three stores."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from ha_tasks.errors import ScopeBusy, StaleEpoch, StaleFence
from ha_tasks.model.audit import AuditEntry, verified
from ha_tasks.model.balancer import ServerState
from ha_tasks.model.cluster import Cluster, ClusterState, sync_set_of
from ha_tasks.model.incident import IncidentState
from ha_tasks.model.run import TERMINAL, Outcome, Phase, Run, after
from ha_tasks.store import Store
from tests.contract.conftest import AnyStore
from tests.contract.test_repositories_incidents import opened
from tests.plans import NOW, at, new_run, on_scope

BAD, GOOD = Outcome(ok=False, error="no"), Outcome(ok=True)


def told(store: AnyStore) -> list[AuditEntry]:
    """The chain, which is whole."""
    with store.audit.chain() as chain:
        entries = list(chain.entries)
    assert verified(entries, store.audit.head()).ok
    return entries


def verbs(store: AnyStore) -> list[tuple[str, str, str]]:
    """(actor, verb, object) of each entry."""
    return [(entry.actor, entry.verb, entry.object) for entry in told(store)]


def take(store: AnyStore, run: Run, outcome: Outcome, owner: str = "w1") -> Run:
    """One attempt at the run's current step."""
    claimed = store.journal.claim(run.id, run.position, run.phase, owner=owner, now=at(1), lease_s=3)
    assert claimed is not None
    ended = after(claimed, outcome, at(2))
    store.journal.settle(claimed, ended, claimed.fence, outcome="x", error=outcome.error, due=None)
    return ended


def test_a_run_is_told_when_it_is_made_and_when_it_ends_not_at_every_step(store: AnyStore):
    run, _ = store.journal.create(new_run(), NOW)

    while run.state not in TERMINAL:
        run = take(store, run, GOOD)

    assert verbs(store) == [
        ("test", "run.created", f"run {run.id}"),
        ("w1", "run.succeeded", f"run {run.id}"),
    ]
    made, ended = told(store)
    assert (made.at, made.before) == (NOW, None)
    assert made.after is not None
    assert made.after["summary"] == "web1 is restarted"
    assert made.after["reason"] == "a test wants it"
    assert (ended.at, ended.before) == (at(2), {"state": "verifying", "position": 3})
    assert ended.after is not None
    assert ended.after["state"] == "succeeded"


def test_a_run_that_turns_round_is_told_by_both_its_turns(store: AnyStore):
    run, _ = store.journal.create(new_run(), NOW)
    run = take(store, run, BAD, owner="w2")

    run = take(store, run, GOOD, owner="w3")

    assert [verb for _, verb, _ in verbs(store)] == ["run.created", "run.compensating", "run.rolled_back"]
    turned = told(store)[1]
    assert turned.actor == "w2"
    assert turned.after is not None
    assert turned.after["error"] == "no"


def test_a_run_that_exists_or_is_refused_is_told_once(store: AnyStore):
    store.journal.create(new_run(), NOW)
    store.journal.create(new_run(), at(1))
    with pytest.raises(ScopeBusy):
        store.journal.create(new_run(key="another"), at(2))

    assert len(told(store)) == 1


def test_a_late_write_is_not_told(store: AnyStore):
    run, _ = store.journal.create(new_run(), NOW)
    old = store.journal.claim(run.id, 1, Phase.DO, owner="w1", now=at(1), lease_s=3)
    store.journal.claim(run.id, 1, Phase.DO, owner="w2", now=at(9), lease_s=3)
    assert old is not None
    failed = after(replace(old, steps=run.steps), BAD, at(10))

    with pytest.raises(StaleFence):
        store.journal.settle(old, failed, old.fence, outcome="x", error="", due=None)

    assert len(told(store)) == 1


def test_an_incident_is_told_when_it_opens_moves_is_let_go_and_acknowledged(store: AnyStore):
    incident = opened(store.incidents)
    opened(store.incidents, at(1))
    move = store.incidents.move
    move(incident.id, IncidentState.BLOCKED, at(2), "w1", "a guard says no")
    move(incident.id, IncidentState.BLOCKED, at(3), "w1", "again")
    move(incident.id, IncidentState.RECOVERING, at(4), "w1", "late", only_from=[IncidentState.OPEN])
    move(incident.id, IncidentState.ESCALATED, at(5), "w2", "nothing helps", run=7)
    store.incidents.let_go(incident.id, at(6), "w1", "it answers again")
    store.incidents.acknowledge(incident.id, at(7), "ann@ops")
    store.incidents.acknowledge(incident.id, at(8), "bob@ops")
    move(incident.id, IncidentState.OPEN, at(9), "w1", "too late")

    name = f"I-{incident.id}"
    assert verbs(store) == [
        ("host/probe-a", "incident.opened", name),
        ("w1", "incident.blocked", name),
        ("w2", "incident.escalated", name),
        ("w1", "incident.let_go", name),
        ("ann@ops", "incident.acknowledged", name),
        ("ann@ops", "incident.resolved", name),
    ]
    escalated = told(store)[2]
    assert escalated.before == {"state": "blocked"}
    assert escalated.after == {
        "state": "escalated",
        "service": "web",
        "instance": "web1",
        "kind": "instance_down",
        "severity": "critical",
        "summary": "web1 does not answer",
        "run": 7,
        "why": "nothing helps",
    }


def test_a_switch_is_told_with_who_had_set_it_and_a_release_of_nothing_is_not(store: AnyStore):
    store.limits.set_switch("stop", False, "ann", "", NOW)
    store.limits.set_switch("stop", True, "ann", "storm", at(1))
    store.limits.set_switch("observe", True, "bob", "new here", at(2), scope="web")
    store.limits.set_switch("stop", False, "bob", "calm", at(3))

    assert verbs(store) == [
        ("ann", "switch.engaged", "switch stop"),
        ("bob", "switch.engaged", "switch observe web"),
        ("bob", "switch.released", "switch stop"),
    ]
    assert told(store)[2].before == {"engaged": True, "by": "ann"}
    assert told(store)[2].after == {"engaged": False, "scope": "", "reason": "calm"}


def test_a_drill_is_told_when_it_begins_ends_and_is_judged(store: AnyStore):
    store.limits.set_switch("drill", True, "ann", "drill crash-web", NOW)
    store.limits.set_switch("drill", False, "ann", "drill crash-web ended", at(9))
    number = store.drills.add("crash-web", "PASS", {"lost": 0}, at(9))

    assert [(e.verb, e.object) for e in told(store)] == [
        ("drill.begun", "drill"),
        ("drill.ended", "drill"),
        ("drill.judged", "drill"),
    ]
    assert told(store)[2].after == {"report": number, "scenario": "crash-web", "verdict": "PASS"}


def test_an_acknowledged_cool_down_is_told(store: AnyStore):
    store.limits.cool("db", "failover", at(600))
    store.limits.acknowledge("db", at(1), "ann")
    store.limits.acknowledge("db", at(2), "ann")

    (entry,) = told(store)
    assert (entry.verb, entry.object, entry.after) == (
        "cool_down.acknowledged",
        "cool-down db",
        {"playbooks": ["failover"]},
    )


def test_a_cluster_is_told_when_it_is_taken_into_care_and_whenever_it_changes(store: AnyStore):
    cluster = Cluster(
        name="db", epoch=1, primary="pg1", state=ClusterState.STEADY, sets=(sync_set_of(["pg2", "pg3"]),)
    )
    store.clusters.register(cluster, NOW)
    store.clusters.register(cluster, at(1))
    store.clusters.advance("db", 1, at(2), new_epoch=True, state=ClusterState.FAILING)
    store.clusters.advance("db", 2, at(3), new_epoch=False, state=ClusterState.FAILING)
    with pytest.raises(StaleEpoch):
        store.clusters.advance("db", 1, at(4), new_epoch=True)

    made, advanced = told(store)
    assert (made.verb, made.object) == ("cluster.registered", "cluster db")
    assert (advanced.verb, advanced.at) == ("cluster.advanced", at(2))
    assert advanced.before is not None
    assert advanced.after is not None
    assert (advanced.before["epoch"], advanced.after["epoch"]) == (1, 2)
    assert advanced.after["sets"] == [{"quorum": 1, "members": ["pg2", "pg3"]}]


def test_wanted_servers_are_told_where_they_changed(store: AnyStore):
    both = {("web", "web1"): ServerState.MAINT, ("web", "web2"): ServerState.READY}
    store.wanted.want(both, "web1 is unhealthy", NOW)
    store.wanted.want(both, "again", at(1))
    store.wanted.want({**both, ("web", "web1"): ServerState.READY}, "web1 is healthy", at(2))

    _, back = told(store)
    assert (back.verb, back.object) == ("servers.wanted", "servers web/web1")
    assert back.before == {"web/web1": "maint"}
    assert back.after == {"wanted": {"web/web1": "ready"}, "reason": "web1 is healthy", "run": None}


def test_many_wanted_servers_are_told_by_their_backends(store: AnyStore):
    many = {("web", f"web{n}"): ServerState.READY for n in range(3)} | {("pg", "pg1"): ServerState.MAINT}
    store.wanted.want(many, "first start", NOW)

    (entry,) = told(store)
    assert entry.object == "servers pg web"
    assert entry.after is not None
    assert len(entry.after["wanted"]) == 4


def test_a_process_is_named_where_a_verb_is_not_told_who_asks(sqlite_url: str):
    store = Store(sqlite_url, actor="host/observer")
    store.wanted.want({("web", "web1"): ServerState.MAINT}, "web1 is unhealthy", NOW)

    assert verbs(store)[0][0] == "host/observer"
    store.dispose()


def test_writers_of_every_kind_at_once_neither_wait_for_each_other_for_ever_nor_leave_a_gap(
    store: AnyStore,
):
    def recover(n: int) -> None:
        run, _ = store.journal.create(on_scope(f"s{n}", key=f"key-{n}"), NOW)
        incident = opened(store.incidents, key=f"key-{n}")
        store.incidents.move(incident.id, IncidentState.RECOVERING, at(1), "w", "run", run=run.id)
        store.wanted.want({("web", f"web{n}"): ServerState.MAINT}, "r", at(2))
        store.wanted.want({("web", "shared"): (ServerState.MAINT, ServerState.READY)[n % 2]}, "r", at(2))
        take(store, run, GOOD)
        take(store, store.journal.get(run.id), BAD)
        store.incidents.move(incident.id, IncidentState.RESOLVED, at(3), "w", "well")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(recover, range(12)))

    counted: Callable[[str], int] = [verb for _, verb, _ in verbs(store)].count
    assert counted("run.created") == counted("incident.opened") == counted("incident.resolved") == 12
