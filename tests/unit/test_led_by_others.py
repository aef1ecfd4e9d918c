"""Clusters that others lead: nothing of them is touched, what is wrong is told, and told to be over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from ha_tasks.adapters.led_probe import LedProber
from ha_tasks.bootstrap.agents import host_agents
from ha_tasks.cli import led_by_others as shown
from ha_tasks.cli.lines import Line
from ha_tasks.disaster_recovery.playbooks import load_playbooks
from ha_tasks.errors import ManagerRefused, Refused, UsageError, VerificationFailed
from ha_tasks.failover.load_balancer import LoadBalancer, backends_of_others
from ha_tasks.inventory import read
from ha_tasks.model.balancer import ServerState
from ha_tasks.model.incident import TOLD, IncidentKind, IncidentState
from ha_tasks.model.led_by_others import (
    FACT,
    LedCluster,
    MemberRole,
    cluster_from,
    latest_word,
    must_be_ours,
    observed_primary,
    refusal,
    troubles,
)
from ha_tasks.model.platform import ManagedBy, PatroniApi
from ha_tasks.model.probe import OutcomeKind, ProbeOutcome
from ha_tasks.ports.host import Authority
from ha_tasks.workflows.led_switchover import LedSwitchover
from ha_tasks.workflows.led_watch import LedWatch
from tests.fakes.audit import FakeAudit
from tests.fakes.balancer import FakeBalancer
from tests.fakes.clock import FakeClock
from tests.fakes.cluster_manager import FakeClusterManager
from tests.fakes.probes import FakeProber
from tests.fakes.repositories import FakeStore, FakeWantedServers
from tests.unit.builders import at, database, outcome, platform
from tests.unit.inventory_files import write_inventory
from tests.unit.test_detection import World

NAMES = ("pg1", "pg2", "pg3")
PATRONI = replace(
    database(), managed_by=ManagedBy.PATRONI, patroni=PatroniApi(urls=("http://127.0.0.1:8008",))
)
EXTERNAL = replace(database(), managed_by=ManagedBy.EXTERNAL)
REFUSED = OutcomeKind.REFUSED


def look(when: float, word: LedCluster | str, instance: str = "pg1") -> ProbeOutcome:
    said = {"error": word} if isinstance(word, str) else word.to_json()
    return outcome(instance, when, in_recovery=instance != "pg1", **{FACT: said})


def kinds(outcomes: list[ProbeOutcome], now: float) -> set[IncidentKind] | None:
    found = troubles(outcomes, NAMES, at(now))
    return None if found is None else {trouble.kind for trouble in found}


@pytest.mark.parametrize(
    ("service", "words"),
    [
        pytest.param(PATRONI, ["led by Patroni", "ha-tasks switchover db --to", "patronictl"], id="patroni"),
        pytest.param(EXTERNAL, ["led by others", "never acted on"], id="external"),
    ],
)
def test_the_refusal_says_who_leads_and_where_to_go(service, words):
    with pytest.raises(Refused) as refused:
        must_be_ours(service)

    assert [word for word in words if word not in str(refused.value)] == []


def test_what_is_ours_is_not_refused():
    must_be_ours(database())

    assert refusal(database()) == ""


def test_a_manager_that_is_content_leaves_nothing_to_tell():
    word = FakeClusterManager(NAMES).cluster

    assert kinds([look(s, word) for s in range(15)], 15) == set()


def leaderless(manager: FakeClusterManager) -> None:
    manager.cluster = replace(manager.cluster, leader=None)


def dead_leader(manager: FakeClusterManager) -> None:
    manager.change("pg1", state="stopped")


def deaf(manager: FakeClusterManager) -> None:
    manager.change("pg3", state="start failed")


def forgotten(manager: FakeClusterManager) -> None:
    manager.cluster = replace(manager.cluster, members=manager.cluster.members[:2])


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        (leaderless, IncidentKind.NO_LEADER),
        (dead_leader, IncidentKind.NO_LEADER),
        (deaf, IncidentKind.MEMBER_NOT_STREAMING),
        (forgotten, IncidentKind.MEMBER_NOT_STREAMING),
    ],
)
def test_what_is_wrong_is_told_once_it_has_lasted(
    broken: Callable[[FakeClusterManager], None], kind: IncidentKind
):
    manager = FakeClusterManager(NAMES)
    well = [look(s, manager.cluster) for s in range(3)]
    broken(manager)
    ill = [look(s, manager.cluster) for s in range(3, 14)]

    assert kinds([*well, *ill[:9]], 12) == set()
    assert kinds([*well, *ill], 13.5) == {kind}


def test_a_moment_of_health_between_starts_the_time_anew():
    manager = FakeClusterManager(NAMES)
    well = manager.cluster
    deaf(manager)
    outcomes = [look(s, well if s == 7 else manager.cluster) for s in range(15)]

    assert kinds(outcomes, 15) == set()


def test_a_pause_is_told_at_once_and_a_silent_manager_after_a_while():
    paused = replace(FakeClusterManager(NAMES).cluster, paused=True)
    silent = [look(s, "connection refused") for s in range(12)]

    assert kinds([look(0, paused)], 1) == {IncidentKind.MANAGER_PAUSED}
    assert kinds(silent[:5], 5) == set()
    assert kinds(silent, 12) == {IncidentKind.MANAGER_SILENT}


def test_where_nobody_has_looked_lately_nothing_is_said_about_it():
    word = FakeClusterManager(NAMES).cluster

    assert kinds([], 1) is None
    assert kinds([look(0, word)], 6) is None
    assert kinds([outcome("pg1", 0)], 1) is None


def test_a_word_survives_its_json():
    word = replace(FakeClusterManager(NAMES).cluster, paused=True)

    assert cluster_from(word.to_json()) == word
    assert latest_word([look(1, word), look(2, "silent")], at(3)) == word
    assert latest_word([look(1, word)], at(60)) is None


def test_the_primary_is_who_said_so_last_and_has_not_taken_it_back():
    before = [outcome("pg1", 0, in_recovery=False), outcome("pg2", 0, in_recovery=True)]
    dead = [*before, outcome("pg1", 1, REFUSED)]

    assert observed_primary(dead) == "pg1"
    assert observed_primary([*dead, outcome("pg2", 2, in_recovery=False)]) == "pg2"
    assert observed_primary([*before, outcome("pg1", 1, in_recovery=True)]) is None


def test_every_kind_is_only_told_and_no_playbook_matches_it():
    led = {k for k in IncidentKind if k.startswith(("no_leader", "manager_", "member_"))}

    assert led <= TOLD
    assert not [p.name for p in load_playbooks() if p.match.incident in TOLD]


class Watched:
    def __init__(self) -> None:
        self.store, self.clock, self.manager = FakeStore(), FakeClock(), FakeClusterManager(NAMES)
        self.watch = LedWatch(
            platform=platform(PATRONI, EXTERNAL),
            observations=self.store.observations,
            incidents=self.store.incidents,
            ledger=self.store.ledger,
            clock=self.clock,
            actor="h/test",
        )

    def seconds(self, count: int) -> None:
        for _ in range(count):
            self.clock.advance(1.0)
            now = self.clock.now()
            seen = replace(look(0, self.manager.cluster), sent_at=now, known_at=now)
            self.store.observations.record([seen])
            self.watch.look()


def test_an_incident_is_opened_once_and_resolved_by_the_managers_word():
    world = Watched()
    deaf(world.manager)
    world.seconds(14)

    (incident,) = world.store.incidents.recent(5)
    assert (incident.kind, incident.state) == (IncidentKind.MEMBER_NOT_STREAMING, IncidentState.OPEN)
    assert "pg3 is start failed" in incident.summary

    world.manager.change("pg3", state="streaming")
    world.seconds(1)
    (incident,) = world.store.incidents.recent(5)
    assert incident.state is IncidentState.RESOLVED


def test_of_a_cluster_that_patroni_leads_a_dead_primary_starts_nothing_and_the_ledger_knows():
    world = World(PATRONI)
    world.health.facts = {n: {"in_recovery": n != "pg1", "agent": None} for n in NAMES}
    world.rounds(6)
    assert world.detection.serving_primary(PATRONI) == "pg1"
    world.health.kinds["pg1"] = REFUSED
    world.rounds(6)

    (incident,) = world.incidents
    assert (incident.kind, incident.state) == (IncidentKind.PRIMARY_DOWN, IncidentState.OPEN)
    assert world.store.journal.recent() == ()
    assert standing(world) == "unavailable"

    world.rounds(40)  # nobody takes writes for longer than anybody remembers who did
    assert standing(world) == "unavailable"

    world.health.facts["pg2"] = {"in_recovery": False, "agent": None}
    world.health.kinds["pg1"] = OutcomeKind.OK
    world.health.facts["pg1"] = {"in_recovery": True, "agent": None}
    world.rounds(12)
    assert standing(world) == "available"
    assert {i.state for i in world.incidents} == {IncidentState.RESOLVED}


def standing(world: World) -> str:
    (interval,) = [i for i in world.store.ledger.intervals(world.clock.now()) if i.until is None]
    return str(interval.state)


def test_the_agents_client_refuses_commands_to_what_others_lead(tmp_path):
    path = write_inventory(
        tmp_path, ('managed_by = "ha_tasks"\n\n[services.db', 'managed_by = "external"\n\n[services.db')
    )
    inventory = read(path, {}).inventory
    assert inventory is not None
    agents, by = host_agents(inventory), Authority(epoch=1, fence=1)

    for command in (
        lambda: agents.fence("pg1", by),
        lambda: agents.revoke("pg1", by),
        lambda: agents.promote("pg1", "", by),
        lambda: agents.set_sync("pg1", "", by),
        lambda: agents.follow("pg1", "pg2", by),
        lambda: agents.start_primary("pg1", "", by),
        lambda: agents.rejoin("pg1", "pg2", by, "job"),
        lambda: agents.drop_slot("pg1", "ha_pg9", by),
    ):
        with pytest.raises(Refused, match="db is led by others"):
            command()


def test_servers_in_their_backends_are_not_set_by_what_was_wanted_before():
    wanted, clock = FakeWantedServers(), FakeClock()
    balancer = FakeBalancer({("pg_write", "pg1"): ServerState.READY, ("web", "web1"): ServerState.READY})
    keys = [("pg_write", "pg1"), ("web", "web1")]
    wanted.want(dict.fromkeys(keys, ServerState.MAINT), "before", clock.now(), None)
    theirs = backends_of_others(platform(PATRONI))

    repaired = LoadBalancer({"edge": balancer}, wanted, clock, theirs=theirs).reconcile()

    assert theirs == {"pg_write", "pg_read"}
    assert [(drift.backend, drift.server) for drift in repaired] == [("web", "web1")]


class Counted(FakeClusterManager):
    asked = 0

    def report(self, service, *, timeout_s=2.0):
        self.asked += 1
        return super().report(service, timeout_s=timeout_s)


def test_each_probe_bears_the_managers_word_and_a_second_of_probes_shares_one():
    manager, clock = Counted(NAMES), FakeClock()
    inner = FakeProber(clock)
    prober = LedProber(inner, manager, clock)

    first = prober.probe(PATRONI, PATRONI.instances)
    prober.probe(PATRONI, PATRONI.instances)
    assert manager.asked == 1
    assert [cluster_from(o.facts[FACT]).leader for o in first] == ["pg1"] * 3

    clock.advance(1.0)
    manager.reachable = False
    silent = prober.probe(PATRONI, PATRONI.instances)
    assert {o.facts[FACT]["error"] for o in silent} == {"127.0.0.1:8008: connection refused"}
    assert all(FACT not in o.facts for o in prober.probe(EXTERNAL, EXTERNAL.instances))


@pytest.fixture
def manager() -> FakeClusterManager:
    return FakeClusterManager(NAMES)


@pytest.fixture
def switchover(manager: FakeClusterManager) -> LedSwitchover:
    return LedSwitchover(manager=manager, audit=FakeAudit(), clock=FakeClock())


def test_a_switchover_is_asked_for_and_told_to_the_audit_chain(switchover, manager):
    plan = switchover.plan(PATRONI, "pg3")

    done = switchover.switch(PATRONI, plan, actor="a person", reason="a new disk")

    assert (plan["leader"], plan["candidate"], plan["lag_bytes"]) == ("pg1", "pg3", 0)
    assert (manager.cluster.leader, done["leader"], done["was"], done["timeline"]) == ("pg3", "pg3", "pg1", 2)
    entries = switchover._audit.entries
    assert [(e.actor, e.verb, e.object) for e in entries] == [
        ("a person", "manager.asked", "service db"),
        ("a person", "manager.done", "service db"),
    ]


def test_without_a_name_the_synchronous_standby_is_taken_and_only_it(switchover, manager):
    manager.change("pg2", lag_bytes=4096)
    assert switchover.plan(PATRONI)["candidate"] == "pg3"

    manager.change("pg2", role=MemberRole.SYNC_STANDBY)
    assert switchover.plan(PATRONI)["candidate"] == "pg2"
    with pytest.raises(Refused, match="pg3 is not synchronous, rows could be lost; take pg2"):
        switchover.plan(PATRONI, "pg3")


def test_a_lost_answer_is_looked_after(switchover, manager):
    manager.answer_is_lost = True

    assert switchover.switch(PATRONI, switchover.plan(PATRONI), actor="p", reason="")["leader"] == "pg2"


def test_an_answer_without_a_new_leader_is_a_failure_in_the_end(switchover, manager):
    plan = switchover.plan(PATRONI)
    manager.switchover = lambda *_, **__: "Switchover scheduled"

    with pytest.raises(VerificationFailed, match="pg2 does not lead db: pg1 leads"):
        switchover.switch(PATRONI, plan, actor="p", reason="")


def test_who_leads_no_more_by_then_makes_the_manager_refuse(switchover, manager):
    plan = switchover.plan(PATRONI, "pg2")
    manager.lead("pg3")

    with pytest.raises(ManagerRefused, match="leader name does not match"):
        switchover.switch(PATRONI, plan, actor="p", reason="")


def paused(manager: FakeClusterManager) -> None:
    manager.cluster = replace(manager.cluster, paused=True)


def nobody_streams(manager: FakeClusterManager) -> None:
    manager.change("pg2", state="stopped")
    manager.change("pg3", state="stopped")


@pytest.mark.parametrize(
    ("broken", "to", "said"),
    [
        (leaderless, None, "no running leader"),
        (paused, None, "patronictl resume"),
        (nobody_streams, None, "nobody could take over"),
        (deaf, "pg3", "pg3 does not stream, it is start failed"),
        (deaf, "pg1", "pg1 leads db already"),
    ],
)
def test_what_patroni_would_refuse_is_refused_before_with_the_way_out(switchover, manager, broken, to, said):
    broken(manager)

    with pytest.raises(Refused, match=said):
        switchover.plan(PATRONI, to)


def test_a_member_that_is_not_there_is_a_wrong_word(switchover):
    with pytest.raises(UsageError, match='no member "pg9"'):
        switchover.plan(PATRONI, "pg9")


def test_only_patroni_is_asked_for_a_switchover(switchover):
    with pytest.raises(Refused, match="no manager that could be asked"):
        switchover.plan(EXTERNAL)


def text(lines: list[Line]) -> str:
    return "\n".join("".join(part if isinstance(part, str) else part[0] for part in line) for line in lines)


def test_status_says_who_leads_and_what_is_unusual(manager):
    manager.change("pg2", state="stopped")
    manager.change("pg3", pending_restart=True, role=MemberRole.SYNC_STANDBY)
    paused(manager)
    led = shown.described(PATRONI, [look(0, manager.cluster)], at(1))

    said = text(list(shown.lines("db", led)))

    assert "db: led by Patroni, only watched here; leader pg1 running, timeline 1" in said
    assert "db: paused: nobody fails it over" in said
    assert "db: pg2 is stopped" in said
    assert "db: pg3 waits for a restart" in said
    assert [shown.role_of(n, led) for n in NAMES] == ["primary", "standby", "sync standby"]


def test_status_of_a_silent_manager_says_what_the_servers_themselves_say(manager):
    led = shown.described(PATRONI, [look(0, "refused")], at(1))
    theirs = shown.described(EXTERNAL, [outcome("pg2", 0, in_recovery=False)], at(1))
    nobody = shown.described(EXTERNAL, [], at(1))
    leaderless(manager)
    without = shown.described(PATRONI, [look(0, manager.cluster)], at(1))

    assert "Patroni does not answer" in text(list(shown.lines("db", led)))
    assert text(list(shown.lines("db", theirs))) == "db: led by others, only watched here; pg2 takes writes"
    assert "nobody is seen to take writes" in text(list(shown.lines("db", nobody)))
    assert "it has no leader" in text(list(shown.lines("db", without)))


def test_advice_sends_a_person_to_who_leads():
    assert "patronictl list" in shown.advice(PATRONI)
    assert "where it is run" in shown.advice(EXTERNAL)
    assert shown.advice(database()) == shown.advice(None) == ""


def test_a_plan_and_its_end_are_told_in_a_few_lines(switchover):
    plan = switchover.plan(PATRONI)
    done = switchover.switch(PATRONI, plan, actor="p", reason="")

    assert "from pg1 to pg2 (timeline 1, 0 B behind)" in text(list(shown.plan_lines(plan)))
    assert "done: pg2 leads db, timeline 2" in text(list(shown.done_lines(done)))
    assert "ha-tasks switchover db --to pg1" in text(list(shown.done_lines(done)))


def test_forgotten_members_have_lasted_since_they_were_missed(manager):
    word = manager.cluster
    forgotten(manager)
    outcomes = [look(s, word if s < 2 else manager.cluster) for s in range(14)]

    (trouble,) = troubles(outcomes, NAMES, at(14)) or ()

    assert trouble.since == at(2)
    assert at(14) - trouble.since >= timedelta(seconds=10)
    assert "pg3 is not known to its manager" in trouble.text
