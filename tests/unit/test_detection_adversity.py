"""Incidents that must not be left behind: by an observer that died, by a recovery that failed, by order."""

from __future__ import annotations

import pytest

from ha_tasks.errors import NotSafe, PassingFailure
from ha_tasks.model.cluster import ClusterState, Unfinished, sync_set_of
from ha_tasks.model.evidence import EvidenceKind, judge_primary
from ha_tasks.model.incident import IncidentKind, IncidentState
from ha_tasks.model.playbook import Acceptance
from ha_tasks.model.probe import OutcomeKind
from ha_tasks.model.run import RunState
from tests.unit.builders import database, outcome, web
from tests.unit.test_detection import OK, REFUSED, World, failed_over

HERE = {"agent": {"postmaster": "running"}}


class Died(BaseException):
    """SIGKILL, as far as a fake can."""


def following():
    return {"in_recovery": True, "receiving": True, **HERE}


def test_an_observer_that_dies_between_the_run_and_the_incident_leaves_neither_alone():
    """The run is there and the incident does not know it: it must be told how the run ended."""
    world = World(database())
    world.cluster()
    world.actions["revoke_standbys"].fail = [NotSafe("R + W <= N")]
    world.health.kinds["pg1"] = REFUSED
    move = world.store.incidents.move

    def dies(*args, **more):
        world.store.incidents.move = move
        raise Died

    world.store.incidents.move = dies
    with pytest.raises(Died):
        world.rounds(4)
    world.rounds(1)
    world.drive()
    world.rounds(2)
    world.follower.follow_all()

    (incident,) = world.incidents
    assert world.store.journal.recent()[0].state is RunState.ROLLED_BACK
    assert incident.state is IncidentState.ESCALATED


def test_a_standby_waits_for_its_primary_before_it_is_brought_back():
    """Tried against a dead primary it would fail, and be escalated for good."""
    world = World(database())
    world.cluster()
    world.store.limits.cool("db", "postgres-failover", world.clock.now().replace(year=2100))
    world.health.kinds |= {"pg1": REFUSED, "pg3": REFUSED}
    world.health.facts["pg2"] = {"in_recovery": True, "receiving": False, **HERE}
    world.health.facts["pg3"] = {"agent": {"postmaster": "absent"}}
    world.rounds(6)

    states = {i.instance: i.state for i in world.incidents}
    assert states == {"pg1": IncidentState.BLOCKED, "pg3": IncidentState.SUPPRESSED}
    assert world.store.journal.recent() == ()

    world.health.kinds["pg1"] = OK
    world.health.facts["pg2"] = following()
    world.rounds(1)
    assert [r.plan.playbook for r in world.store.journal.recent()] == ["postgres-rejoin"]


def test_what_depends_on_a_database_does_not_wait_for_a_failure_that_is_over():
    from dataclasses import replace

    world = World(replace(web(), depends_on=("db",)), database())
    world.cluster()
    for node in ("pg2", "pg3"):
        world.health.facts[node] = following()
    world.health.kinds["pg1"] = REFUSED
    world.health.facts["pg2"] = world.health.facts["pg3"] = {**following(), "receiving": False}
    world.actions["revoke_standbys"].fail = [NotSafe("R + W <= N")]
    world.rounds(3)
    world.drive()
    world.health.kinds["pg1"] = OK
    world.health.facts["pg2"] = world.health.facts["pg3"] = following()
    world.rounds(2)
    assert world.incidents[0].state is IncidentState.ESCALATED

    world.health.kinds["web1"] = REFUSED
    world.rounds(4)

    assert world.incidents[0].instance == "web1"
    assert world.incidents[0].state is IncidentState.RECOVERING


def test_a_node_that_follows_but_is_not_in_the_set_is_brought_in():
    """It was silent when its primary was replaced, and then simply pointed to the new one."""
    world = failed_over()
    world.health.kinds["pg1"] = OK
    world.health.facts["pg1"] = following()
    world.rounds(1)

    latest = world.incidents[0]
    assert (latest.kind, latest.instance) == (IncidentKind.STANDBY_DOWN, "pg1")
    assert latest.state is IncidentState.RECOVERING
    assert "not in the synchronous set" in latest.summary


def test_a_widening_that_failed_is_tried_again_once_a_person_has_looked():
    world = failed_over()
    world.health.kinds["pg1"] = OK
    world.health.facts["pg1"] = following()
    world.actions["widen_sync_set"].fail = [PassingFailure("not in time")] * 3
    world.rounds(1)
    world.drive()
    world.rounds(3)
    escalated = world.incidents[0]
    assert escalated.state is IncidentState.ESCALATED

    world.store.incidents.acknowledge(escalated.id, world.clock.now(), "a person")
    world.rounds(1)
    assert world.incidents[0].id != escalated.id
    assert world.incidents[0].state is IncidentState.RECOVERING


def test_a_change_of_the_set_that_was_begun_and_not_ended_is_taken_up_again():
    world = failed_over()
    world.health.kinds["pg1"] = OK
    world.health.facts["pg1"] = following()
    sets = [sync_set_of(["pg3"]), sync_set_of(["pg1", "pg3"])]
    world.store.clusters.advance("db", 2, world.clock.now(), new_epoch=True, sets=sets)
    world.rounds(1)

    assert [i.instance for i in world.incidents if i.kind is IncidentKind.STANDBY_DOWN] == ["pg1"]


@pytest.mark.parametrize("state", ["failing", "blocked"])
def test_only_in_a_steady_cluster_the_set_says_who_is_missing(state):
    world = failed_over()
    world.health.kinds["pg1"] = OK
    world.health.facts["pg1"] = following()
    world.store.clusters.advance("db", 2, world.clock.now(), new_epoch=True, state=ClusterState(state))
    world.rounds(2)

    assert [i.kind for i in world.incidents] == [IncidentKind.PRIMARY_DOWN]


def test_a_primary_that_answers_is_none_while_another_may_have_been_promoted():
    """Its failover has to end; that it answers resolves nothing."""
    world = World(database())
    world.cluster()
    for node in ("pg2", "pg3"):
        world.health.facts[node] = following()
    its = Unfinished(epoch=2, candidate="pg2", sync_set=sync_set_of(["pg3"]), timeline=1)
    state, now = ClusterState.FAILING, world.clock.now()
    world.store.clusters.advance("db", 1, now, new_epoch=True, state=state, unfinished=[its])
    world.rounds(2)

    (incident,) = world.incidents
    assert (incident.kind, incident.state) == (IncidentKind.PRIMARY_DOWN, IncidentState.RECOVERING)
    assert "pg2 may have been promoted" in incident.summary


def test_silence_of_everybody_is_the_observers_own_network():
    """Nobody could be revoked either: trying would only cut a primary off that serves."""
    silent = [
        outcome("pg1", n * 0.5, OutcomeKind.TIMEOUT, vantage=v) for n in range(8) for v in ("h1/a", "h2/b")
    ]
    by_vantage = {v: [o for o in silent if o.vantage == v] for v in ("h1/a", "h2/b")}
    standbys = [outcome(node, 5, OutcomeKind.TIMEOUT) for node in ("pg2", "pg3")]

    assert judge_primary(by_vantage, standbys, quorum=2).kind is EvidenceKind.NONE


@pytest.mark.parametrize(("wait", "fails_over"), [("sync", False), ("wal", True)])
def test_commits_that_hang_count_as_down_and_only_a_dead_disk_is_failed_over(wait, fails_over):
    """Reads are answered all the time. What nobody acknowledges is mended by another set, no promotion."""
    world = World(database())
    world.cluster()
    world.health.facts["pg1"] = {"in_recovery": False, "lsn": 7, "waits": {wait: "17@t"}, **HERE}
    world.health.facts["pg2"] = world.health.facts["pg3"] = following()
    world.rounds(19)
    assert world.store.ledger.scores()["db"][0] == 1.0
    world.rounds(4)

    runs = [r.plan.playbook for r in world.store.journal.recent()]
    assert world.store.ledger.scores()["db"][0] == 0.0
    assert runs == (["postgres-failover"] if fails_over else [])
    kind = IncidentKind.PRIMARY_DOWN if fails_over else IncidentKind.COMMITS_HANG
    assert [i.kind for i in world.incidents] == [kind]


def test_a_slow_observer_does_not_close_what_was_opened_after_it_had_judged():
    """Otherwise the failover goes on without its incident, and a second incident fails over what is well."""
    world = World(database())
    world.cluster()
    services = list(world.platform.services.values())
    slow, quick = world.observer("h1/slow"), world.observer("h2/quick")
    world.rounds(3)
    before = slow.judge(services)

    world.store.limits.set_switch("observe", True, "a person", "first", world.clock.now())
    world.health.kinds["pg1"] = REFUSED
    world.rounds(3, [quick])
    slow.react(before)

    (incident,) = world.incidents
    assert (incident.kind, incident.state) == (IncidentKind.PRIMARY_DOWN, IncidentState.BLOCKED)
    world.health.kinds["pg1"] = OK
    world.rounds(1, [slow])
    assert world.incidents[0].state is IncidentState.RESOLVED


def test_an_observer_does_not_begin_the_failover_for_which_a_person_has_just_accepted_a_loss():
    """Its own run may lose nothing, and would be refused as the one before."""
    world = World(database())
    world.cluster()
    world.actions["revoke_standbys"].fail = [NotSafe("R + W <= N")] * 3
    known = {"lsn": 4096, "timeline": 1, **HERE}
    world.health.facts["pg1"] = {"in_recovery": False, **known}
    world.health.facts |= {n: {"in_recovery": True, "receiving": True, **known} for n in ("pg2", "pg3")}
    world.rounds(3)
    world.health.kinds["pg1"], world.health.facts["pg1"] = REFUSED, {"agent": None}
    world.rounds(3)
    world.drive()
    services = list(world.platform.services.values())
    person, quick = world.observer("anna"), world.observer("h2/quick")
    gather = person._starter._guards.gather

    def while_an_observer_looks(*args, **more):
        quick.react(quick.judge(services))
        return gather(*args, **more)

    person._starter._guards.gather = while_an_observer_looks
    verdicts = person.judge(services)
    assert world.incidents[0].state is IncidentState.ESCALATED
    person.react(verdicts, asked_by="anna", accepts=Acceptance(bytes=1 << 30))

    (run,) = world.store.journal.active()
    assert (run.mode, run.requested_by) == ("manual", "anna")
    assert run.plan.accepts is not None
    assert world.incidents[0].state is IncidentState.RECOVERING
