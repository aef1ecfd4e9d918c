"""What the command line shows: views over the repositories, and the lines made of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ha_tasks.cli import ack, drill, incidents, live, plan, runs, status, switch
from ha_tasks.cli.advice import advice
from ha_tasks.cli.lines import Line, columns, moment, since, span, text_of
from ha_tasks.cli.progress import in_words
from ha_tasks.disaster_recovery.playbooks import load_playbooks
from ha_tasks.disaster_recovery.recovery_planner import RecoveryPlanner
from ha_tasks.errors import UsageError
from ha_tasks.inventory import load
from ha_tasks.model.cluster import Cluster, ClusterState, SyncSet
from ha_tasks.model.incident import Incident, IncidentKind, IncidentState, incident_key
from ha_tasks.model.leadership import BEAT, NOBODY
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Platform
from ha_tasks.model.probe import OutcomeKind, ProbeOutcome, Target
from ha_tasks.model.progress import Progress, progress_in
from ha_tasks.model.run import Outcome, Phase, Run, after
from ha_tasks.ports.ledger import Worker
from ha_tasks.ports.repositories import NewRun
from tests.fakes.clock import START as NOW
from tests.fakes.queues import FakeQueues
from tests.fakes.repositories import FakeStore
from tests.unit.inventory_files import write_inventory


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return load(write_inventory(tmp_path), {}).platform


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


def text(lines: Iterable[Line]) -> str:
    return "\n".join(text_of(line) for line in lines)


def opened(store: FakeStore, service: str = "web", instance: str = "web1") -> Incident:
    kind = IncidentKind.PRIMARY_DOWN if service == "db" else IncidentKind.INSTANCE_DOWN
    incident, _ = store.incidents.open(
        key=incident_key(service, instance, kind),
        service=service,
        instance=instance,
        kind=kind,
        severity="critical",
        summary=f"{instance} of {service}: refused to 2 vantages",
        fault_at=NOW - timedelta(seconds=12),
        now=NOW - timedelta(seconds=10),
        actor="h/probe-a",
        evidence={"vantages": ["h/probe-a", "h/probe-b"]},
    )
    return incident


def recovering(store: FakeStore, platform: Platform) -> Run:
    """A run of the incident, taken up at its first step."""
    incident = opened(store)
    made = RecoveryPlanner(platform, load_playbooks()).create_recovery_plan(incident)
    new = NewRun(
        plan=made,
        incident=incident.id,
        mode="auto",
        requested_by="h/probe-a",
        reason=incident.summary,
        idempotency_key="incident-1",
    )
    run, _ = store.journal.create(new, NOW - timedelta(seconds=9))
    store.incidents.move(incident.id, IncidentState.RECOVERING, NOW, "h/probe-a", "run 1 started", run=run.id)
    claimed = store.journal.claim(
        run.id, 1, Phase.DO, owner="h/recovery-1/7", now=NOW - timedelta(seconds=8), lease_s=30
    )
    assert claimed is not None
    return claimed


def settled(store: FakeStore, run: Run, outcome: Outcome) -> Run:
    ended = after(run, outcome, NOW)
    store.journal.settle(
        run, ended, run.fence, outcome="ok" if outcome.ok else "failed", error=outcome.error, due=None
    )
    return ended


def seen(store: FakeStore, service: str, instance: str, kind: OutcomeKind = OutcomeKind.OK, **facts: object):
    at = NOW - timedelta(seconds=1)
    target = Target(service=service, instance=instance)
    store.observations.record(
        [
            ProbeOutcome(
                target=target,
                vantage="h/probe-a",
                probe="postgres" if service == "db" else "http",
                sent_at=at,
                known_at=at,
                kind=kind,
                rtt_s=0.002,
                facts=facts,
            )
        ]
    )


def test_status_of_an_untouched_store_says_that_nobody_watches(platform: Platform, store: FakeStore):
    content = status.gathered(platform, store, NOW)

    shown = text(status.lines(content))
    assert [s["state"] for s in content["services"]] == ["unknown"] * 3
    assert "no worker has reported lately: nothing is watched or recovered; start the workers" in shown
    assert "db: no primary is recorded yet" in shown
    assert json.loads(json.dumps(content)) == content


def test_status_shows_each_service_with_its_state_score_and_instances(platform: Platform, store: FakeStore):
    store.ledger.service_state("web", "degraded", 0.5, NOW - timedelta(seconds=4))
    seen(store, "web", "web1", OutcomeKind.REFUSED)
    seen(store, "web", "web2")

    web = status.gathered(platform, store, NOW)["services"][0]

    assert (web["state"], web["score"]) == ("degraded", 0.5)
    assert web["since"] == (NOW - timedelta(seconds=4)).isoformat()
    assert [(i["role"], i["seen"]) for i in web["instances"]] == [
        ("active", "refused"),
        ("active", "ok"),
        ("spare", None),
    ]


def test_a_state_that_nobody_has_judged_lately_is_not_believed(platform: Platform, store: FakeStore):
    store.ledger.service_state("web", "available", 1.0, NOW - timedelta(minutes=3))

    web = status.gathered(platform, store, NOW)["services"][0]

    assert (web["state"], web["since"]) == ("unknown", (NOW - timedelta(minutes=3)).isoformat())


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (None, "db is not watched"),
        (OutcomeKind.ERROR, "db answers us with an error only:"),
        (OutcomeKind.OK, "all services are available"),
    ],
)
def test_the_first_line_calls_nothing_available_that_nobody_sees_well(
    platform: Platform, store: FakeStore, kind: OutcomeKind | None, said: str
):
    """The last judgement stands for a while; at three in the morning only this line is read."""
    for service in platform.services.values():
        store.ledger.service_state(service.name, "available", 1.0, NOW - timedelta(seconds=4))
        for instance in service.instances:
            of_db = service.name == "db"
            if not of_db or kind is not None:
                seen(store, service.name, instance.name, kind if of_db and kind else OutcomeKind.OK)

    first = text(status.lines(status.gathered(platform, store, NOW))).splitlines()[0]

    assert said in first


@pytest.mark.parametrize(("lasts", "said"), [(True, "     down since"), (False, ", healthy again meanwhile")])
def test_an_escalated_incident_whose_target_is_well_again_is_not_called_down(
    platform: Platform, store: FakeStore, lasts: bool, said: str
):
    incident = opened(store)
    store.incidents.move(incident.id, IncidentState.ESCALATED, NOW, "h/w", "no")
    if not lasts:
        store.incidents.let_go(incident.id, NOW, "h/w", "healthy again")

    shown = text(status.lines(status.gathered(platform, store, NOW)))

    assert said in shown
    assert ("it is healthy again; once you know why: ha-tasks ack I-1" in shown) is not lasts


def test_status_of_a_cluster_names_primary_epoch_state_set_and_lag(platform: Platform, store: FakeStore):
    sets = (SyncSet(quorum=1, members=("pg1", "pg3")),)
    store.clusters.register(
        Cluster(name="db", epoch=4, primary="pg2", state=ClusterState.STEADY, sets=sets), NOW
    )
    seen(store, "db", "pg1", lsn=900)
    seen(store, "db", "pg2", lsn=1000)
    seen(store, "db", "pg3", lsn=1000)

    content = status.gathered(platform, store, NOW)

    db = content["services"][1]
    assert db["cluster"] == {"primary": "pg2", "epoch": 4, "state": "steady", "sync": ["ANY 1 (pg1, pg3)"]}
    assert [i["role"] for i in db["instances"]] == ["standby", "primary", "standby"]
    assert [i["lag_bytes"] for i in db["instances"]] == [100, None, 0]
    shown = text(status.lines(content))
    assert "db: primary pg2, steady, epoch 4, commits wait for ANY 1 (pg1, pg3)" in shown
    assert "pg1 standby ok lag 100 B" in shown


def test_status_tells_the_incident_the_step_of_its_run_and_what_one_can_do(
    platform: Platform, store: FakeStore
):
    recovering(store, platform)

    shown = text(status.lines(status.gathered(platform, store, NOW)))

    assert "I-1 recovering  web1 of web: refused to 2 vantages" in shown
    assert "down since 11:59:48 (12 s)" in shown
    assert "run 1 http-instance: running, at step 1 of 6 take_out by h/recovery-1/7" in shown
    assert (
        "you can: wait and watch: ha-tasks run 1; end it between two steps: ha-tasks switch off web" in shown
    )


def test_status_calls_a_person_for_an_escalated_incident(platform: Platform, store: FakeStore):
    incident = opened(store)
    store.incidents.move(incident.id, IncidentState.ESCALATED, NOW, "h/w", "run 3 rolled_back: no", run=3)

    shown = text(status.lines(status.gathered(platform, store, NOW)))

    assert "a person is needed for I-1" in shown
    assert "last: escalated: run 3 rolled_back: no" in shown
    assert "see what failed: ha-tasks run 3; mend it by hand, then: ha-tasks ack I-1" in shown


def test_status_says_in_one_line_why_nothing_acts_and_how_that_is_mended(
    platform: Platform, store: FakeStore
):
    store.identity.hold("the store is older than what was done by it; ha-tasks store approve")
    store.limits.set_switch("observe", True, "store-watch", "the store is older", NOW)

    shown = text(status.lines(status.gathered(platform, store, NOW)))

    assert "nothing acts: the store is older than what was done by it; ha-tasks store approve" in shown
    assert "ha-tasks switch on" not in shown


def test_status_shows_switches_workers_and_their_silence(platform: Platform, store: FakeStore):
    store.limits.set_switch("stop", True, "eve@ops", "night", NOW)
    for name, ago in (("h/recovery-1", 1.0), ("h/beat", 90.0)):
        seen_at = NOW - timedelta(seconds=ago)
        store.ledger.heartbeat(
            Worker(name=name, kind="worker", queues=("recovery",), pid=4, heartbeat_at=seen_at)
        )

    shown = text(status.lines(status.gathered(platform, store, NOW)))

    said = (
        "automation is off for everything, by eve@ops since 12:00:00, 0.0 s ago (night): nothing is recovered"
    )
    assert f"{said}; let it act again: ha-tasks switch on" in shown
    assert "h/beat        worker  4    1 min 30 s ago  recovery" in shown
    assert "no worker has reported" not in shown


@pytest.mark.parametrize(
    ("holder", "ago_s", "expected"),
    [
        ("h/beat-a", 1, "beat: h/beat-a acts, fence 1"),
        ("h/beat-a", 60, "beat: nobody acts, so nothing is sent on schedule; start two"),
        (NOBODY, 0, "beat: nobody acts, so nothing is sent on schedule; start two"),
        (None, 0, "beat: nobody acts, so nothing is sent on schedule; start two"),
    ],
)
def test_status_shows_who_leads_the_beat(
    platform: Platform, store: FakeStore, holder: str | None, ago_s: float, expected: str
):
    if holder is not None:
        store.leadership.take(BEAT, None, holder, NOW - timedelta(seconds=ago_s))

    assert expected in text(status.lines(status.gathered(platform, store, NOW))).splitlines()


def test_status_shows_how_much_stands_in_each_queue_and_for_how_long():
    queues = FakeQueues()
    for ago in (65, 3, 2, 1):
        queues.send("recovery", sent_at=(NOW - timedelta(seconds=ago)).timestamp())
    queues.take("recovery")
    queues.send("recovery", sent_at=(NOW - timedelta(seconds=70)).timestamp())

    found, trouble = status.backlogs(queues, NOW)

    assert trouble == ""
    (line,) = [line for line in queue_lines(found) if "recovery" in line]
    assert line.startswith("queue recovery: 4 waiting, the oldest for ")
    assert line.endswith(", 1 being worked on")
    assert queue_lines(status.backlogs(FakeQueues(), NOW)[0]) == ["queues: empty"]


def queue_lines(queues: list[Json]) -> list[str]:
    content = {"queues": queues, "broker_trouble": ""}
    return [text_of(line) for line in status.queue_lines(content)]


def test_a_broker_that_cannot_be_asked_is_told():
    found, trouble = status.backlogs(FakeQueues(down=True), NOW)

    assert (found, trouble) == ([], "the broker is down")
    assert text(status.queue_lines({"queues": [], "broker_trouble": trouble})) == "queues: the broker is down"
    assert status.backlogs(None, NOW)[1].startswith("the lengths of its queues are not read")


def test_the_live_view_ends_with_the_last_events(platform: Platform, store: FakeStore):
    recovering(store, platform)
    content = {**status.gathered(platform, store, NOW), "queues": [], "broker_trouble": ""}

    last = text(live.live_lines(content)).splitlines()[-2:]

    assert last == [
        "11:59:50  I-1  opened: web1 of web: refused to 2 vantages  h/probe-a",
        "12:00:00  I-1  recovering: run 1 started  h/probe-a",
    ]


def test_incidents_are_listed_newest_first_with_how_long_they_took(store: FakeStore):
    first = opened(store)
    opened(store, "db", "pg1")
    store.incidents.move(first.id, IncidentState.RESOLVED, NOW - timedelta(seconds=5), "h/w", "over")

    shown = text(incidents.list_lines(incidents.latest(store, NOW))).splitlines()

    assert shown[1].split("  ")[:2] == ["I-2", "open"]
    assert "12 s so far" in shown[1]
    assert "7.0 s" in shown[2]
    assert text(incidents.list_lines(incidents.latest(FakeStore(), NOW))) == "no incident yet"


def test_an_incident_is_shown_with_its_story_and_the_seconds_since_the_fault(
    platform: Platform, store: FakeStore
):
    recovering(store, platform)

    content = incidents.one(store, 1, NOW)

    shown = text(incidents.story_lines(content))
    assert "instance_down of web, since 11:59:48 UTC, took 12 s so far" in shown
    assert "11:59:50  2.0 s  h/probe-a  opened: web1 of web: refused to 2 vantages" in shown
    assert "recovery: ha-tasks run 1" in shown
    assert content["evidence"] == {"vantages": ["h/probe-a", "h/probe-b"]}


def test_a_step_that_takes_long_shows_how_far_it_is_wherever_its_run_is_shown(
    platform: Platform, store: FakeStore
):
    run = recovering(store, platform)
    told = Progress(doing="base backup from pg1", done_bytes=700 * 1024**2, of_bytes=2 * 1024**3)
    store.journal.tell(run.id, run.fence, 1, told.to_json())
    far = "base backup from pg1, 34 % (700 MB of 2.0 GB)"

    of_run = runs.one(store, 1, NOW)
    of_incident = text(incidents.story_lines(incidents.one(store, 1, NOW)))
    at_large = text(status.lines(status.gathered(platform, store, NOW)))

    assert f"1     take_out          running  1         -     {far}" in text(runs.lines(of_run))
    assert of_run["steps"][0]["output"]["percent"] == 34
    assert f"recovery: ha-tasks run 1, at step 1 of 6 take_out by h/recovery-1/7: {far}" in of_incident
    assert f"running, at step 1 of 6 take_out by h/recovery-1/7: {far}" in at_large


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (Progress(doing="pg_rewind from pg1"), "pg_rewind from pg1"),
        (Progress(doing="a copy", done_bytes=2048), "a copy, 2.0 kB"),
        (Progress(doing="a copy", done_bytes=0, of_bytes=10), "a copy, 0 % (0 B of 10 B)"),
        (Progress(doing="a copy", done_bytes=12, of_bytes=10), "a copy, 100 % (12 B of 10 B)"),
        (Progress(doing="a copy", done_bytes=12, of_bytes=0), "a copy, 12 B"),
    ],
)
def test_progress_says_only_what_is_known(told: Progress, shown: str):
    assert in_words(told.to_json()) == shown


def test_an_output_of_another_kind_is_no_progress():
    assert in_words({"server": "web1"}) == in_words({"doing": 7}) == ""
    assert progress_in({"doing": "a copy", "done_bytes": "many"}) == Progress(doing="a copy")


@pytest.mark.parametrize(("text_", "number"), [("7", 7), ("I-7", 7), ("i7", 7)])
def test_an_incident_is_named_by_its_number(text_: str, number: int):
    assert incidents.numbered(text_) == number


def test_an_incident_or_a_run_that_does_not_exist_is_a_usage_error(store: FakeStore):
    with pytest.raises(UsageError, match="there is no incident 9; see: ha-tasks incidents"):
        incidents.one(store, 9, NOW)
    with pytest.raises(UsageError, match="there is no run 9; see: ha-tasks run"):
        runs.one(store, 9, NOW)
    with pytest.raises(UsageError, match='"web" is no incident; write its number: 7 or I-7'):
        incidents.numbered("web")


def test_a_run_is_shown_with_its_steps_and_the_attempts_that_did_not_go_well(
    platform: Platform, store: FakeStore
):
    run = settled(store, recovering(store, platform), Outcome(ok=True, output={"server": "web1"}))
    claimed = store.journal.claim(run.id, 2, Phase.DO, owner="h/recovery-2/8", now=NOW, lease_s=30)
    settled(store, claimed, Outcome(ok=False, error="no spare answers"))

    content = runs.one(store, 1, NOW)

    shown = text(runs.lines(content))
    assert "run 1 rolled_back  http-instance v1 for web1" in shown
    assert "I-1, auto, asked for by h/probe-a at 11:59:51 UTC: web1 of web: refused to 2 vantages" in shown
    assert "1     take_out          kept   1         8.0 s  server web1" in shown
    assert "no spare answers" in shown
    assert [a["outcome"] for a in content["attempts"]] == ["ok", "failed"]
    assert "2                do  2      h/recovery-2/8  12:00:00  failed: no spare answers" in shown
    assert json.loads(json.dumps(content)) == content


def test_a_run_on_its_way_says_where_it_is(platform: Platform, store: FakeStore):
    run = recovering(store, platform)
    waiting = replace(run, lease_owner=None, phase=Phase.UNDO)

    assert runs.brief(run)["where"] == "at step 1 of 6 take_out by h/recovery-1/7"
    assert runs.brief(waiting)["where"] == "undoing step 1 of 6 take_out, waits for a worker"
    listed = {"at": NOW.isoformat(), "runs": [runs.brief(run)]}
    assert "1    running  web      http-instance  I-1       11:59:51" in text(runs.list_lines(listed))
    assert text(runs.list_lines({"at": NOW.isoformat(), "runs": []})) == "no run yet"


@pytest.mark.parametrize(
    ("state", "last", "said"),
    [
        (IncidentState.OPEN, "", "wait: it is being decided"),
        (IncidentState.MITIGATED, "", "wait: the service works again, its redundancy"),
        (IncidentState.RESOLVED, "", "leave it: it is over"),
        (IncidentState.BLOCKED, "refused by cool_down: end it with: ha-tasks ack web", "ha-tasks ack web"),
        (
            IncidentState.BLOCKED,
            "refused by blind",
            "see why: ha-tasks incidents 1; try again by hand: ha-tasks",
        ),
        (IncidentState.ESCALATED, "", "mend it by hand, then: ha-tasks ack I-1"),
        (IncidentState.AWAITING_APPROVAL, "", "look at what would be done: ha-tasks run"),
        (IncidentState.VERIFYING, "", "wait and watch: ha-tasks run None"),
    ],
)
def test_advice_says_what_a_person_can_do(store: FakeStore, state: IncidentState, last: str, said: str):
    incident = replace(opened(store), state=state)

    assert advice(incident, None, last).startswith(said)


def test_every_state_of_an_incident_has_an_advice(store: FakeStore):
    incident = opened(store)

    assert all(advice(replace(incident, state=state), None, "") for state in IncidentState)


def test_acknowledging_an_incident_resolves_it_only_when_it_was_escalated(
    platform: Platform, store: FakeStore
):
    incident = opened(store)
    before = ack.acknowledge("I-1", platform, store, NOW, "eve@ops")
    store.incidents.move(incident.id, IncidentState.ESCALATED, NOW, "h/w", "no")

    content = ack.acknowledge("i-1", platform, store, NOW, "eve@ops")

    assert (before["state"], content["state"]) == ("open", "resolved")
    assert text(ack.lines(content)) == "I-1 is resolved"
    assert "only an escalated incident needs you" in text(ack.lines(before))
    assert store.incidents.timeline(1)[-1].text == "resolved: acknowledged by eve@ops"


def test_acknowledging_a_scope_ends_its_cool_downs(platform: Platform, store: FakeStore):
    store.limits.cool("web", "http-instance", NOW + timedelta(seconds=60))

    content = ack.acknowledge("web", platform, store, NOW, "eve@ops")

    assert text(ack.lines(content)) == "ended on web: cool-down of http-instance"
    assert store.limits.cooling("web", "http-instance") is None
    again = ack.acknowledge("web", platform, store, NOW, "eve@ops")
    assert text(ack.lines(again)) == "web had no cool-down"


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("wbe", '"wbe" is neither a service nor I-<n>; did you mean "web"?'),
        ("I-9", "there is no incident I-9"),
    ],
)
def test_acknowledging_what_does_not_exist_is_a_usage_error(
    platform: Platform, store: FakeStore, what: str, said: str
):
    with pytest.raises(UsageError, match=said):
        ack.acknowledge(what, platform, store, NOW, "eve@ops")


@pytest.mark.parametrize(
    ("engaged", "said"),
    [
        ([], "automation is on: what fails is recovered"),
        ([("stop", "", "")], "automation is off for everything, by eve since 11:58:00, 2 min ago: nothing"),
        ([("stop", "web", "night")], "is off for web, by eve since 11:58:00, 2 min ago (night): nothing"),
        ([("observe", "", "")], "automation only observes for everything, by eve"),
        ([("observe", "db", "")], "is recovered; let it act again: ha-tasks switch on db"),
        ([("stop", "", ""), ("stop", "db", "")], "automation is off for db, by eve"),
        ([("drill", "", "")], "automation is on"),
    ],
)
def test_switches_are_told_with_who_engaged_them_and_the_way_back(
    store: FakeStore, engaged: list[tuple[str, str, str]], said: str
):
    for name, scope, reason in engaged:
        store.limits.set_switch(name, True, "eve", reason, NOW - timedelta(minutes=2), scope=scope)

    assert said in text(switch.lines(switch.standing(store, NOW)))


def test_a_plan_is_made_for_the_open_incident_or_for_one_that_has_not_happened(
    platform: Platform, store: FakeStore
):
    web, db = platform.services["web"], platform.services["db"]
    standing = opened(store, "web", "web2")

    assert plan.subject(web, store.incidents.current(), None, None, NOW) == standing
    assert plan.subject(web, store.incidents.current(), None, "web1", NOW).id == 0
    imagined = plan.subject(db, (), "pg2", None, NOW)
    assert (imagined.instance, imagined.kind) == ("pg2", IncidentKind.PRIMARY_DOWN)
    assert plan.subject(db, (), "pg2", "pg1", NOW).kind is IncidentKind.STANDBY_DOWN
    assert plan.subject(db, (), None, None, NOW).kind is IncidentKind.PRIMARY_DOWN
    standby = plan.subject(db, (), "pg1", None, NOW, kind=IncidentKind.STANDBY_DOWN)
    assert (standby.instance, standby.kind) == ("pg2", IncidentKind.STANDBY_DOWN)


def test_a_plan_for_what_does_not_exist_is_a_usage_error(platform: Platform):
    with pytest.raises(UsageError, match='there is no service "wbe"; did you mean "web"'):
        plan.service_of(platform, "wbe")
    with pytest.raises(UsageError, match='web has no instance "web9"; did you mean "web'):
        plan.subject(platform.services["web"], (), None, "web9", NOW)


def test_a_drill_is_shown_with_what_was_measured_and_promised():
    report: Json = {
        "scenario": "lose-primary",
        "verdict": "PASS",
        "reasons": ["nothing was lost"],
        "detected_s": 1.2,
        "decided_s": 1.3,
        "acted_s": 2.0,
        "verified_s": None,
        "writes": {"acked": 700, "failed": 3, "lost": None, "stale": 0},
        "rto": {"objective_s": 30.0, "measured_s": 2.1},
        "steps": [{"action": "open_epoch", "state": "done", "seconds": 0.01}],
        "incident": 4,
        "acknowledged_cooldowns": ["cool-down of postgres-failover"],
        "application": {"requests": 90, "failed": 2, "longest_gap_s": 2.3},
        "left": ["pg1 does not answer"],
    }

    shown = text(drill.lines(report))

    assert "lose-primary PASS  nothing was lost" in shown
    assert "outage 2.1 s (objective 30 s)" in shown
    assert "detected T+1.2 s, decided T+1.3 s, acted T+2.0 s, verified T+-" in shown
    assert "acknowledged 700, failed 3, could not be read back, stale 0" in shown
    assert "the application: 90 requests, 2 failed, longest gap 2.3 s" in shown
    assert "left behind: pg1 does not answer" in shown
    assert "acknowledged before: cool-down of postgres-failover" in shown


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1, "0.0 s"),
        (0.04, "0.0 s"),
        (9.96, "10.0 s"),
        (12.7, "12 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (3601, "1 h"),
        (356400, "4 d 3 h"),
    ],
)
def test_a_span_of_time_is_told_in_two_units(seconds: float, said: str):
    assert span(seconds) == said


def test_a_moment_bears_its_date_only_when_that_is_not_today():
    now = NOW.isoformat()

    assert moment(None) == "-"
    assert moment(now, now) == "12:00:00"
    assert moment((NOW - timedelta(days=1)).isoformat(), now) == "2025-12-31 12:00:00"
    assert since((NOW - timedelta(seconds=70)).isoformat(), now) == "1 min 10 s"


def test_a_table_ends_where_its_last_cells_end():
    """On a narrow terminal the blanks behind a short one would be empty lines."""
    table = columns(["A", "B"], [["x", "short"], ["y", "a very long cell"]])

    assert [len("".join(part if isinstance(part, str) else part[0] for part in line)) for line in table] == [
        len("A  B"),
        len("x  short"),
        len("y  a very long cell"),
    ]


def test_a_table_is_as_wide_as_its_widest_cells():
    table = columns(["A", "LONG"], [["x", ("y", "bold")], ["long cell", "z"]])

    assert [text_of(line) for line in table] == ["A          LONG", "x          y", "long cell  z"]
    assert columns(["A"], []) == []
