"""Keeping it in bounds from the command line: switches by service, maintenance, approvals, putting back."""

from __future__ import annotations

import socket
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ha_tasks.cli import ack, status
from ha_tasks.cli.advice import advice
from ha_tasks.cli.root import run
from ha_tasks.inventory import load
from ha_tasks.model.balancer import ServerState
from ha_tasks.model.incident import IncidentState
from ha_tasks.model.maintenance import weekly
from ha_tasks.model.platform import Platform, Role
from ha_tasks.model.playbook import Approval, GuardSettings
from ha_tasks.model.probe import OutcomeKind
from ha_tasks.ports.maintenance import NewWindow
from ha_tasks.store import Store
from ha_tasks.workflows.putting_back import put_back
from tests.fakes.clock import START as NOW
from tests.fakes.repositories import FakeStore
from tests.plans import at, new_run, plan_of
from tests.unit.builders import database, outcome, web
from tests.unit.inventory_files import write_inventory
from tests.unit.test_cli import PORTS, result
from tests.unit.test_cli_views import opened, text


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a migrated store, whose servers and broker are all down."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = unused.getsockname()[1]
    changes = [(f"127.0.0.1:{p}", f"127.0.0.{n}:{nobody}") for n, p in enumerate(PORTS, start=2)]
    path = write_inventory(tmp_path / "home", *changes)
    monkeypatch.setenv("HA_TASKS_HOME", str(path.parent))
    monkeypatch.delenv("HA_TASKS_CONFIG", raising=False)
    assert run(["migrate"]) == 0
    return path.parent


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return load(write_inventory(tmp_path), {}).platform


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


def error(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


def test_a_service_is_switched_off_by_its_name_and_stays_off_when_everything_is_switched_on(home, capsys):
    assert run(["switch", "off", "web", "--reason", "new release"]) == 0
    said = capsys.readouterr().out
    assert "automation is off for web, by " in said
    assert "(new release): nothing is recovered; let it act again: ha-tasks switch on web" in said

    assert run(["switch", "off"]) == 0
    assert "automation is off for everything" in capsys.readouterr().out
    assert run(["switch", "on", "--json"]) == 0
    assert [switch["scope"] for switch in result(capsys)["engaged"]] == ["web"]

    assert run(["switch", "on", "web", "--json"]) == 0
    assert result(capsys)["engaged"] == []


def test_a_mistyped_service_is_answered_with_the_one_that_was_meant(home, capsys):
    assert run(["switch", "off", "wbe"]) == 2
    assert 'there is no service "wbe"; did you mean "web"?' in error(capsys)


def test_a_weekly_window_is_announced_listed_and_ended(home, capsys):
    add = ["maintenance", "add", "db", "--weekly", "sat 02:00-04:00", "--tz", "Europe/Berlin"]
    assert run([*add, "--reason", "patches", "--json"]) == 0
    (window,) = result(capsys)["windows"]
    assert (window["scope"], window["weekly"]) == ("db", "sat 02:00-04:00 Europe/Berlin")

    assert run(["maintenance", "list"]) == 0
    assert "sat 02:00-04:00 Europe/Berlin" in capsys.readouterr().out

    assert run(["maintenance", "end", str(window["id"])]) == 0
    assert "ended" in capsys.readouterr().out
    assert run(["maintenance", "list"]) == 0
    assert "no maintenance is announced" in capsys.readouterr().out


def test_a_window_for_a_while_is_open_at_once_and_status_shows_it(home, capsys):
    assert run(["maintenance", "add", "everything", "--for", "2h", "--reason", "the racks move"]) == 0
    assert "open" in capsys.readouterr().out

    assert run(["status"]) == 0
    said = capsys.readouterr().out
    assert "maintenance of everything until " in said
    assert "(the racks move): nothing is recovered by itself; end it: ha-tasks maintenance end 1" in said


def test_a_window_may_be_announced_from_one_moment_to_another(home, capsys):
    times = ["--from", "2126-11-28T02:00", "--until", "2126-11-28T04:00", "--tz", "Europe/Berlin"]
    assert run(["maintenance", "add", "web", *times, "--json"]) == 0
    (window,) = result(capsys)["windows"]

    assert (window["opens"], window["closes"]) == ("2126-11-28T01:00:00+00:00", "2126-11-28T03:00:00+00:00")
    assert not window["open"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add", "web"], "write one of --for, --until (with or without --from) and --weekly"),
        (["add", "web", "--for", "2h", "--weekly", "sat 02:00-04:00"], "write one of --for"),
        (["add", "web", "--weekly", "sat 02:00-04:00", "--from", "2126-01-01"], "write one of --for"),
        (["add", "wbe", "--for", "2h"], 'there is no service "wbe"; did you mean "web"?'),
        (["add", "web", "--for", "99999999999d"], "that is too far away"),
        (["add", "web", "--until", "9999-12-31T23:59", "--tz", "America/New_York"], "that is too far away"),
        (["add", "web", "--for", "soon"], '"soon" is no length of time; write it like 2h'),
        (["add", "web", "--weekly", "saturday"], '"saturday" is no weekly window; write it like'),
        (
            ["add", "web", "--weekly", "sat 02:00-04:00", "--tz", "Europe/Berlni"],
            'there is no time zone "Europe/Berlni"; did you mean "Europe/Berlin"?',
        ),
        (["add", "web", "--until", "2020-01-01T00:00"], "the window would be over at 2020-01-01 00:00 UTC"),
        (["add", "web", "--until", "tomorrow"], '"tomorrow" is no moment; write it like 2026-11-28T02:00'),
        (["end", "41"], "there is no window 41; see: ha-tasks maintenance list"),
    ],
)
def test_a_window_that_cannot_be_says_how_it_is_written(home, capsys, arguments, said):
    assert run(["maintenance", *arguments]) == 2
    assert said in error(capsys)


def waiting_run(home: Path, **more) -> int:
    """A run of the home's store that waits for a person."""
    system_store = Store(f"sqlite:///{next(home.glob('**/*.db'))}")
    plan = replace(plan_of(), scope="web", guards=GuardSettings(approval=Approval.ALWAYS))
    new = replace(new_run(plan), approval_until=at(10**9), **more)
    made, _ = system_store.journal.create(new, at(0))
    system_store.dispose()
    return made.id


def test_a_waiting_run_is_shown_in_red_and_rejected_by_hand(home, capsys):
    number = waiting_run(home)
    assert run(["status"]) == 0
    said = capsys.readouterr().out
    assert f"run {number} (http-instance-down of web) waits for a person until " in said
    assert f"ha-tasks approve {number}" in said

    assert run(["approve", str(number), "--reject", "--reason", "not today"]) == 0
    assert f"run {number} is aborted: rejected by " in capsys.readouterr().out
    assert run(["approve", str(number)]) == 3
    assert f"run {number} is aborted: it waits for nobody" in error(capsys)


def test_a_waiting_run_is_approved_by_hand_and_waits_for_a_worker_although_the_broker_is_away(home, capsys):
    number = waiting_run(home)

    assert run(["approve", str(number), "--json"]) == 0
    approved = result(capsys)["run"]
    assert approved["state"] == "pending"
    assert approved["where"].endswith("waits for a worker")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["41"], 2, "there is no run 41"),
        (["41", "--reject", "--accept-data-loss", "5"], 2, "contradict each other"),
        (["41", "--accept-data-loss", "-5"], 2, "-5 is not in the range"),
    ],
)
def test_what_cannot_be_approved_is_told(home, capsys, arguments, code, said):
    assert run(["approve", *arguments]) == code
    assert said in error(capsys)


def out(store: FakeStore, *names: str) -> None:
    store.wanted.want({("web", name): ServerState.MAINT for name in names}, "it failed for good", NOW)


def seen(store: FakeStore, **kinds: OutcomeKind) -> None:
    seen_at = NOW - timedelta(seconds=1)
    for name, kind in kinds.items():
        plain = outcome(name, 0, kind, service="web")
        store.observations.record([replace(plain, sent_at=seen_at, known_at=seen_at)])


def wanted(store: FakeStore) -> dict[str, str]:
    return {w.server: str(w.state) for w in store.wanted.all()}


def test_acknowledging_puts_back_what_is_healthy_and_takes_the_spare_out(
    platform: Platform, store: FakeStore
):
    incident = opened(store)
    store.incidents.move(incident.id, IncidentState.ESCALATED, NOW, "h/w", "run 1 rolled_back: no")
    out(store, "web1")
    store.wanted.want({("web", "web3"): ServerState.READY}, "in its place", NOW)
    seen(store, web1=OutcomeKind.OK)

    content = ack.acknowledge("I-1", platform, store, NOW, "eve@ops")

    assert "put back into the balancer: web1" in text(ack.lines(content))
    assert wanted(store) == {"web1": "ready", "web3": "drain"}
    assert store.wanted.all()[0].reason == "acknowledged by eve@ops"


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ({"web1": OutcomeKind.OK}, {"web1": "ready", "web2": "maint", "web3": "ready"}),
        (
            {"web1": OutcomeKind.REFUSED, "web2": OutcomeKind.OK},
            {"web1": "maint", "web2": "ready", "web3": "ready"},
        ),
        ({}, {"web1": "maint", "web2": "maint", "web3": "ready"}),
    ],
    ids=["one is mended", "the other is mended", "nobody looked"],
)
def test_what_is_not_seen_healthy_stays_out_and_the_spare_in(platform, store, kinds, expected):
    out(store, "web1", "web2")
    store.wanted.want({("web", "web3"): ServerState.READY}, "in its place", NOW)
    seen(store, **kinds)

    ack.acknowledge("web", platform, store, NOW, "eve@ops")

    assert wanted(store) == expected


def test_nothing_is_put_back_while_a_run_is_under_way_or_where_no_balancer_is(store: FakeStore):
    out(store, "web1")
    seen(store, web1=OutcomeKind.OK)
    store.journal.create(new_run(plan_of(scope="web")), NOW)

    assert put_back(web(), store, NOW, "eve") == ()
    assert put_back(replace(web(), name="other", routing=None), store, NOW, "eve") == ()
    assert wanted(store) == {"web1": "maint"}


def test_who_serves_of_a_database_is_not_decided_by_an_acknowledgement(store: FakeStore):
    service = database()
    assert {i.role for i in service.instances} == {Role.NODE}
    store.wanted.want({("pg_write", "pg2"): ServerState.MAINT}, "a standby", NOW)
    seen_at = NOW - timedelta(seconds=1)
    store.observations.record([replace(outcome("pg2", 0), sent_at=seen_at, known_at=seen_at)])

    assert put_back(service, store, NOW, "eve") == ()


def test_an_incident_of_a_service_that_is_gone_can_be_acknowledged(platform: Platform, store: FakeStore):
    incident = opened(store)
    store.incidents.move(incident.id, IncidentState.ESCALATED, NOW, "h/w", "no")

    content = ack.acknowledge("I-1", replace(platform, services={}), store, NOW, "eve@ops")

    assert (content["state"], content["put_back"]) == ("resolved", [])


def test_status_shows_what_is_announced_only_while_it_is_open(platform: Platform, store: FakeStore):
    rule = weekly("thu 11:30-12:30", "UTC")
    store.maintenance.add(NewWindow(scope="web", actor="anna", reason="", rule=rule), NOW)

    def shown(moment):
        return text(status.lines({**status.gathered(platform, store, moment), "queues": []}))

    assert "maintenance of web until 12:30:00 UTC, by anna: nothing is recovered by itself" in shown(NOW)
    assert "maintenance of web" not in shown(NOW + timedelta(hours=1))


def test_a_child_leads_to_its_parent(store: FakeStore):
    incident = replace(opened(store), state=IncidentState.SUPPRESSED, parent=3)

    assert advice(incident, None, "") == (
        "wait: what it depends on is recovered first; see: ha-tasks incidents 3"
    )


@pytest.mark.parametrize(
    ("managed_by", "said"),
    [
        ("patroni", "db is led by Patroni, which is not held by this: it fails db over all the same"),
        ("external", "db is led by others (managed_by = external), who are not held by this"),
    ],
)
def test_switches_and_windows_say_whom_they_do_not_hold(home, capsys, managed_by, said):
    path = home / "ha-tasks.toml"
    before, table, after = path.read_text().partition("[services.db]")
    text = before + table + after.replace('managed_by = "ha_tasks"', f'managed_by = "{managed_by}"', 1)
    if managed_by == "patroni":
        text += '\n[services.db.patroni]\napi = ["http://127.0.0.2:8008"]\n'
    path.write_text(text)

    for command in (["switch", "off", "db"], ["maintenance", "add", "everything", "--for", "1h"]):
        assert run(command) == 0
        assert said in capsys.readouterr().out
    assert run(["switch", "on"]) == 0
    assert run(["switch", "on", "db"]) == 0
    assert said not in capsys.readouterr().out.splitlines()[-1]

    assert run(["switch", "off", "web"]) == 0
    assert said not in capsys.readouterr().out
