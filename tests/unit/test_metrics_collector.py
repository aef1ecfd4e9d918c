"""The collector: everything out of its sources, each failing alone."""

from __future__ import annotations

from dataclasses import replace
from threading import Event, Thread

import pytest

from ha_tasks.errors import DeadlineExceeded, StoreUnreachable
from ha_tasks.model.cluster import Cluster, ClusterState, SyncSet
from ha_tasks.model.incident import IncidentKind, IncidentState
from ha_tasks.model.playbook import GuardSettings, Plan, PlannedStep, UndoPolicy, VerifySettings
from ha_tasks.model.run import RunState
from ha_tasks.model.schedule import Tick, TickState
from ha_tasks.monitoring.prometheus import CATALOGUE, Part
from ha_tasks.monitoring.snapshot import Snapshot
from ha_tasks.monitoring.transport import MAX_WORKERS
from ha_tasks.names import DEAD_QUEUE, ActionName, Queue, RecoveryType
from ha_tasks.ports.ledger import Worker
from ha_tasks.ports.repositories import NewRun
from tests.fakes.queues import FakeQueues
from tests.unit.builders import T0, at, outcome
from tests.unit.metrics_reading import Stage

PARTS = {(part.value,) for part in Part}


class Silent:
    """A repository whose database does not answer."""

    def __getattr__(self, verb):
        def unreachable(*_, **__):
            raise StoreUnreachable("no answer from the store")

        return unreachable


class Faulty:
    """A repository with a fault that nobody thought of."""

    def __getattr__(self, verb):
        def surprise(*_, **__):
            raise KeyError("surprise")

        return surprise


def up(found):
    return {words[0]: value for words, value in found["ha_collector_up"].items()}


def test_an_empty_store_answers_with_every_part_up():
    found = Stage().scrape()

    assert found["ha_collector_up"] == dict.fromkeys(PARTS, 1.0)
    assert found["ha_store_up"] == found["ha_store_trusted"] == {(): 1.0}
    assert found["ha_collector_duration_seconds"].keys() == PARTS
    assert len(found["ha_build_info"]) == 1


def test_a_store_that_is_held_is_not_trusted():
    stage = Stage()
    stage.store.identity.hold("it is older than its agents")

    assert stage.scrape()["ha_store_trusted"] == {(): 0.0}


def test_nothing_outside_the_catalogue_is_exported():
    names = {d.name for d in CATALOGUE}
    suffixes = ("", "_bucket", "_sum", "_count")

    found = Stage().scrape()

    assert all(any(name.removesuffix(s) in names for s in suffixes) for name in found)


def test_a_broker_that_is_down_takes_only_its_own_numbers_along():
    stage = Stage()
    stage.queues.down = True
    stage.judge("web", "available")

    found = stage.scrape()

    assert {part for part, value in up(found).items() if not value} == {"broker"}
    assert "ha_celery_queue_length" not in found
    assert found["ha_service_up"]


def test_a_store_that_is_down_leaves_what_the_broker_says():
    silent = Silent()
    ports = ("ledger", "incidents", "journal", "clusters", "observations", "limits", "schedule")
    stage = Stage(**dict.fromkeys(ports, silent))

    found = stage.scrape()

    assert {part for part, value in up(found).items() if value} == {"broker"}
    assert found["ha_store_up"] == {(): 0.0}
    assert found["ha_celery_queue_length"].keys() == {(name,) for name in (*Queue, DEAD_QUEUE)}
    assert not {"system_availability_percentage", "ha_incidents_open", "ha_recoveries_total"} & set(found)


def test_a_store_that_is_silent_is_asked_once_in_a_scrape():
    asked = []

    class Counting(Silent):
        def __getattr__(self, verb):
            asked.append(verb)
            return super().__getattr__(verb)

    counting = Counting()
    Stage(ledger=counting, incidents=counting, journal=counting, limits=counting).scrape()

    assert asked == ["series"]


def test_a_fault_in_one_part_takes_only_its_own_numbers_along(caplog):
    stage = Stage(journal=Faulty())

    found = stage.scrape()

    assert {part for part, value in up(found).items() if not value} == {"runs"}
    assert "ha_recoveries_running" not in found
    assert "surprise" in caplog.text


def test_it_speaks_again_once_the_source_is_back():
    stage = Stage()
    stage.queues.down = True
    stage.scrape()
    stage.queues.down = False

    assert up(stage.scrape())["broker"] == 1.0


def test_queues_are_counted_with_their_oldest_message():
    stage = Stage()
    stage.clock.advance(60)
    stage.queues.send("recovery", sent_at=at(18).timestamp())
    stage.queues.send("recovery", sent_at=at(50).timestamp())
    stage.queues.send("probes")
    stage.queues.send("alerts", sent_at=at(61).timestamp())
    stage.queues.send("tuning", sent_at=at(1).timestamp())
    stage.queues.take("tuning")

    found = stage.scrape()

    ages = {words[0]: age for words, age in found["ha_celery_queue_oldest_age_seconds"].items()}
    assert found["ha_celery_queue_length"]["recovery",] == 2
    assert found["ha_celery_queue_unacked"]["tuning",] == 1
    # Without a stamp the age is not known; with a clock that is ahead it is 0, as it is when nothing waits.
    assert ages == {"recovery": pytest.approx(42), "alerts": 0.0, "backups": 0.0, "tuning": 0.0}


def open_incident(stage: Stage, service: str, severity: str = "critical"):
    return stage.store.incidents.open(
        key=service,
        service=service,
        instance="i",
        kind=IncidentKind.INSTANCE_DOWN,
        severity=severity,
        summary="down",
        fault_at=T0,
        now=T0,
        actor="test",
        evidence={},
    )[0]


def test_open_incidents_are_counted_by_severity():
    stage = Stage()
    open_incident(stage, "a")
    open_incident(stage, "b", "a severity of tomorrow")
    resolved = open_incident(stage, "c")
    stage.store.incidents.move(resolved.id, IncidentState.RESOLVED, T0, "test", "over")

    assert stage.scrape()["ha_incidents_open"] == {
        ("critical",): 1,
        ("warning",): 0,
        ("info",): 0,
        ("other",): 1,
    }


def test_switches_and_halted_clusters_are_shown():
    stage = Stage()
    for name, scope in (("stop", ""), ("observe", "web"), ("drill", "")):
        stage.store.limits.set_switch(name, True, "anna", "maintenance", T0, scope=scope)
    stage.store.clusters.register(cluster(ClusterState.BLOCKED), T0)

    found = stage.scrape()

    off = {words for words, value in found["ha_automation_disabled"].items() if value}
    assert off == {("off", "everything"), ("observe", "web"), ("halted", "db")}
    assert found["ha_automation_disabled"]["off", "web"] == 0
    assert found["ha_automation_disabled_since_timestamp_seconds"] == {
        ("off", "everything"): T0.timestamp(),
        ("observe", "web"): T0.timestamp(),
    }


def cluster(state=ClusterState.STEADY) -> Cluster:
    sets = (SyncSet(quorum=1, members=("pg2", "pg3")),)
    return Cluster(name="db", epoch=1, primary="pg1", state=state, sets=sets)


def test_replication_comes_from_the_latest_probes():
    stage = Stage()
    stage.store.clusters.register(cluster(), T0)
    facts = {"timeline": 1, "lsn": 500}
    stage.store.observations.record(
        [
            outcome("pg1", 0, in_recovery=False, **facts),
            outcome("pg2", 0.1, in_recovery=True, receiving=True, timeline=1, lsn=400),
        ]
    )
    stage.clock.advance(1.0)

    found = stage.scrape()

    assert found["ha_replication_primaries"] == {("db",): 1}
    assert found["ha_replication_standbys_ready"] == {("db",): 1}
    assert found["ha_replication_lag_bytes"] == {("db", "pg2"): 100}
    assert found["ha_replication_timeline"] == {("db", "pg1"): 1, ("db", "pg2"): 1}


def test_replication_is_absent_when_nobody_has_probed():
    assert "ha_replication_primaries" not in Stage().scrape()


def test_integrity_is_weighed_by_service_and_due_in_time():
    stage = Stage(integrity_due_s={"replication": 60.0})
    stage.store.ledger.integrity("canary", "db", True, at(0))
    stage.store.ledger.integrity("replication", "db", True, at(0))
    stage.clock.advance(61)

    assert stage.scrape()["data_integrity_score"] == {(): 0.5}


def test_without_a_check_there_is_no_integrity_score():
    assert "data_integrity_score" not in Stage().scrape()


def worker(name, seconds, *queues, kind="worker") -> Worker:
    return Worker(name=name, kind=kind, queues=queues, pid=1, heartbeat_at=at(seconds))


def test_workers_that_were_killed_are_gone_after_15_seconds_and_their_last_heartbeat_stays():
    stage = Stage()
    for one in (
        worker("h/probe-a", 100, "probes", "alerts", kind="observer"),
        worker("h/recovery-1", 100, "recovery", "host.pg1", "a queue of nobody"),
        worker("h/recovery-2", 84, "recovery"),
    ):
        stage.store.ledger.heartbeat(one)
    stage.clock.advance(100)

    found = stage.scrape()

    live = {words[0]: count for words, count in found["ha_celery_workers"].items()}
    assert live == {
        "probes": 1, "alerts": 1, "recovery": 1, "backups": 0, "tuning": 0, "host.pg1": 1, "other": 1,
    }  # fmt: skip
    assert found["ha_celery_worker_heartbeat_timestamp_seconds"]["h/recovery-2",] == at(84).timestamp()


def tick(second: float) -> Tick:
    return Tick(due_at=at(second), fence=1, state=TickState.SENT, changed_at=at(second))


def test_beat_and_its_schedule_are_told_by_their_latest_moments():
    stage = Stage()
    stage.store.ledger.heartbeat(worker("h/beat-b", 9, kind="beat"))
    stage.store.ticks.newest["sweep"] = tick(5)
    stage.store.ticks.newest["prune"] = tick(7)
    stage.store.schedule.succeeded("sweep", at(6))

    found = stage.scrape()

    assert found["ha_beat_last_tick_timestamp_seconds"] == {(): at(7).timestamp()}
    assert found["ha_schedule_last_success_timestamp_seconds"] == {("sweep",): at(6).timestamp()}
    assert "ha_celery_worker_heartbeat_timestamp_seconds" not in found


def test_a_beat_that_never_ticked_is_absent():
    stage = Stage()
    stage.store.ledger.heartbeat(worker("h/beat-b", 9, kind="beat"))

    assert "ha_beat_last_tick_timestamp_seconds" not in stage.scrape()


def test_names_that_come_from_no_closed_list_are_capped_at_the_newest():
    stage = Stage()
    for n in range(MAX_WORKERS + 20):
        stage.store.ledger.heartbeat(worker(f"pod-{n}", n, "probes"))
    stage.clock.advance(MAX_WORKERS + 20)

    heartbeats = stage.scrape()["ha_celery_worker_heartbeat_timestamp_seconds"]

    assert len(heartbeats) == MAX_WORKERS
    assert ("pod-0",) not in heartbeats


def new_run(scope: str) -> NewRun:
    step = PlannedStep(
        no=1,
        id="out",
        action=ActionName.TAKE_OUT,
        args={},
        undo=UndoPolicy.RUN,
        timeout_s=5.0,
        attempts=2,
        point_of_no_return=False,
    )
    plan = Plan(
        service="web",
        scope=scope,
        playbook="restart-instance",
        version=1,
        sha256="",
        recovery_type=RecoveryType.RESTART,
        targets=("web1",),
        steps=(step,),
        guards=GuardSettings(),
        verify=VerifySettings(),
        mitigates=False,
        summary="",
    )
    return NewRun(
        plan=plan, incident=None, mode="auto", requested_by="test", reason="", idempotency_key=scope
    )


def test_recoveries_that_run_are_counted_since_the_oldest():
    stage = Stage()
    for n in range(2):
        stage.store.journal.create(new_run(f"web/web{n}"), at(n))
    ended, _ = stage.store.journal.create(new_run("web/web9"), at(-60))
    entry = stage.store.journal.entries[ended.id]
    entry.run = replace(entry.run, state=RunState.SUCCEEDED)

    found = stage.scrape()

    assert found["ha_recoveries_running"] == {
        ("failover",): 0,
        ("restart",): 2,
        ("rejoin",): 0,
        ("switchover",): 0,
        ("sync_set",): 0,
        ("rollback",): 0,
    }
    assert found["ha_recovery_oldest_start_timestamp_seconds"] == {("restart",): T0.timestamp()}


def test_recoveries_that_wait_for_a_person_do_not_count_as_running():
    stage = Stage()
    stage.store.journal.create(replace(new_run("web/web1"), approval_until=at(60)), at(0))

    found = stage.scrape()

    assert found["ha_approvals_waiting"] == {
        ("failover",): 0,
        ("restart",): 1,
        ("rejoin",): 0,
        ("switchover",): 0,
        ("sync_set",): 0,
        ("rollback",): 0,
    }
    assert found["ha_recoveries_running"] == {
        ("failover",): 0,
        ("restart",): 0,
        ("rejoin",): 0,
        ("switchover",): 0,
        ("sync_set",): 0,
        ("rollback",): 0,
    }


def test_those_who_ask_within_a_second_share_one_scrape():
    stage = Stage()
    snapshot = Snapshot(stage.collector, stage.clock)
    first = list(snapshot.collect())
    stage.clock.advance(0.9)
    second = list(snapshot.collect())
    stage.clock.advance(0.2)
    third = list(snapshot.collect())

    assert [id(family) for family in first] == [id(family) for family in second]
    assert [id(family) for family in first] != [id(family) for family in third]


def test_a_snapshot_names_the_parts_that_are_down():
    stage = Stage()
    stage.queues.down = True

    assert Snapshot(stage.collector, stage.clock).down() == ("broker",)


class Hanging(FakeQueues):
    """A broker that answers only once it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = Event()
        self.let_go = Event()

    def backlogs(self, queues):
        self.asked.set()
        assert self.let_go.wait(10)
        return super().backlogs(queues)


def test_a_source_that_hangs_keeps_the_others_who_ask_only_so_long():
    queues = Hanging()
    stage = Stage(queues=queues)
    snapshot = Snapshot(stage.collector, stage.clock, wait_s=0.05)
    first = Thread(target=lambda: list(snapshot.collect()))
    first.start()
    assert queues.asked.wait(10)

    with pytest.raises(DeadlineExceeded, match="has not answered"):
        snapshot.collect()
    queues.let_go.set()
    first.join(10)

    assert snapshot.down() == ()


def test_the_descriptions_are_the_catalogue():
    described = [family.name for family in Stage().collector.describe()]

    assert described == [d.name.removesuffix("_total") for d in CATALOGUE]
