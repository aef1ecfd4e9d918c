"""The system's health: the rule of its scores, and what each area comes to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ha_tasks.bootstrap import health_system
from ha_tasks.cli import health
from ha_tasks.cli.lines import text_of
from ha_tasks.cli.root import run
from ha_tasks.errors import AgentRefused, AgentUnreachable
from ha_tasks.failover.checkup import Checkup, Instruments
from ha_tasks.inventory import load
from ha_tasks.model.platform import External, ExternalKind, Host, Limits, Platform, Service, ServiceKind
from ha_tasks.model.system_health import (
    CAUTION,
    DOWN,
    IMPAIRED,
    WELL,
    Area,
    AreaHealth,
    Examined,
    HostReading,
    area_health,
    host_examined,
    minded,
    pressure_score,
    system_status,
    use_score,
)
from ha_tasks.store import Store
from ha_tasks.tasks.app import make_app
from ha_tasks.tasks.register import register
from ha_tasks.tasks.runtime import Runtime
from ha_tasks.workflows.facades import ComprehensiveHealthMonitor
from ha_tasks.workflows.system_health import MonitorSystemHealth
from tests.fakes.checks import IDLE, FakeDeepCheck, FakeExternalCheck, FakeHostResources, FakeOwnChecks
from tests.fakes.clock import START, FakeClock
from tests.fakes.health import FakeHealthBook
from tests.fakes.ledger import FakeLedger
from tests.fakes.repositories import FakeReplicationBook
from tests.unit.builders import database, platform, web
from tests.unit.inventory_files import write_inventory

SHARES = st.floats(0.0, 1.0)
SCORES = st.one_of(st.none(), SHARES)
CALM = {"findings": [], "risk": {}}


def examined(score: float | None, subject: str = "x") -> Examined:
    return Examined(subject=subject, check="c", score=score)


@settings(max_examples=40)
@given(st.lists(st.lists(SCORES, max_size=4), min_size=5, max_size=5))
def test_no_score_hides_behind_others_and_what_is_unknown_is_not_well(
    scores: list[list[float | None]],
) -> None:
    areas = {
        area: area_health(area, [examined(score, str(no)) for no, score in enumerate(found)])
        for area, found in zip(Area, scores, strict=True)
    }

    status = system_status(areas, START)

    known = [score for found in scores for score in found if score is not None]
    unknown = any(score is None for found in scores for score in found)
    assert status.overall_score == min(known, default=None)
    assert status.is_healthy == (bool(known) and min(known) >= 0.8 and not unknown)
    assert len(status.to_json()["diagnostics"]) == sum(s != 1.0 for found in scores for s in found)


@given(SHARES, st.floats(0.01, 0.99))
def test_a_share_is_well_up_to_its_limit_and_makes_ill_above(used: float, limit: float) -> None:
    score = use_score(used, limit)

    assert 0.0 <= score <= 1.0
    assert (score == WELL) == (used <= limit)
    assert used <= limit or score <= CAUTION
    assert use_score(1.0, limit) == DOWN


@given(st.floats(0.0, 1000.0), st.floats(0.01, 100.0))
def test_a_run_queue_has_no_end_and_its_score_never_reaches_nothing(found: float, limit: float) -> None:
    score = pressure_score(found, limit)

    assert (score == WELL) == (found <= limit)
    assert found <= limit or 0.0 < score <= CAUTION


def test_a_low_tier_is_shown_and_makes_nobody_ill() -> None:
    assert minded(examined(DOWN), 0.5).score == CAUTION
    assert minded(examined(DOWN), 1.0).score == DOWN
    assert minded(examined(None), 0.5).score is None


def test_a_machine_names_what_is_short_and_what_to_do() -> None:
    reading = HostReading(load=9.0, memory=0.96, descriptors=0.1, disks={"/": 0.2, "/data": 0.99})

    found = {each.check: each for each in host_examined("db1", reading, Limits())}

    assert found["disk"].score == pytest.approx(0.08)
    assert found["disk"].problem == "99% of /data is in use, the limit is 90%"
    assert "du -xh /data" in found["disk"].remedy
    assert found["memory"].score == pytest.approx(0.4)
    assert found["cpu"].problem == "9.0 tasks wait for each core, the limit is 4"
    assert found["descriptors"].well
    assert found["descriptors"].problem == found["descriptors"].remedy == ""


def test_a_reading_goes_over_the_wire_unchanged() -> None:
    assert HostReading.from_json(json.loads(json.dumps(IDLE.to_json()))) == IDLE


class World:
    """A platform with a web and a database, one host, and whatever else is given."""

    def __init__(self, *services: Service, external: tuple[External, ...] = ()) -> None:
        chosen = services or (web(), database())
        hosts = {"db1": Host(name="db1", agent_url="http://127.0.0.1:1")}
        self.platform: Platform = replace(
            platform(*chosen), hosts=hosts, external={each.name: each for each in external}
        )
        self.clock, self.ledger, self.pictures = FakeClock(), FakeLedger(), FakeReplicationBook()
        self.hosts, self.deep, self.outside = FakeHostResources(), FakeDeepCheck(), FakeExternalCheck()
        self.own, self.book = FakeOwnChecks(), FakeHealthBook()
        for service in chosen:
            self.judge(service.name, "available", 1.0)
        self.pictures.put("db", CALM, START)

    def judge(self, service: str, state: str, score: float) -> None:
        self.ledger.service_state(service, state, score, self.clock.now())

    @property
    def checkup(self) -> Checkup:
        instruments = Instruments(
            ledger=self.ledger,
            replication=self.pictures,
            agents=self.hosts,
            here=FakeHostResources(),
            databases={ServiceKind.POSTGRES: self.deep, ServiceKind.REDIS: self.deep},
            outside=self.outside,
            own=self.own,
            clock=self.clock,
        )
        return Checkup(self.platform, instruments)

    def monitor(self, base: object = None) -> ComprehensiveHealthMonitor:
        checkup = self.checkup
        monitor = MonitorSystemHealth(checkup, self.book, self.clock)
        return ComprehensiveHealthMonitor(checkup=checkup, monitor=monitor, base=base)  # type: ignore[arg-type]


def ill(area: AreaHealth) -> list[Examined]:
    return [each for each in area.examined if not each.well]


def test_a_platform_on_which_all_is_well_is_healthy() -> None:
    status = World().monitor().monitor_system_health()

    assert (status.overall_score, status.is_healthy, status.last_check) == (1.0, True, START)
    assert status.to_json()["diagnostics"] == []


def test_a_service_that_is_down_makes_the_system_unhealthy_and_says_what_to_do() -> None:
    world = World()
    world.judge("web", "unavailable", 0.0)

    status = world.monitor().monitor_system_health()

    assert (status.overall_score, status.is_healthy) == (0.0, False)
    [told] = status.to_json()["diagnostics"]
    assert told["area"] == "services"
    assert told["subject"] == "web"
    assert "unavailable since" in told["problem"]
    assert "ha-tasks recover web" in told["remedy"]


def test_a_judgement_that_is_old_is_unknown_and_not_well() -> None:
    world = World()
    world.clock.advance(16)

    area = world.checkup.check_all_services_health()

    assert area.score is None
    assert {each.problem for each in area.examined} == {
        "nobody has judged it lately, so it counts as not available"
    }
    assert not world.monitor().monitor_system_health().is_healthy


@pytest.mark.parametrize(
    ("error", "score", "check"),
    [
        (AgentUnreachable("the agent of db1 did not answer"), IMPAIRED, "agent"),
        (AgentRefused("GET ... is nothing that this agent knows"), CAUTION, "agent"),
    ],
)
def test_an_agent_that_is_away_or_old_is_told(error: AgentRefused, score: float, check: str) -> None:
    world = World()
    world.hosts.told["db1"] = error

    [found] = ill(world.checkup.check_infrastructure_health())

    assert (found.subject, found.check, found.score) == ("db1", check, score)
    assert found.remedy


def test_a_host_is_judged_by_its_own_limits() -> None:
    world = World()
    world.hosts.told["db1"] = replace(IDLE, disks={"/": 0.6})
    world.platform = replace(
        world.platform, hosts={"db1": replace(world.platform.hosts["db1"], limits=Limits(disk=0.5))}
    )

    [found] = ill(world.checkup.check_infrastructure_health())

    assert (found.subject, found.check) == ("db1", "disk")


FINDING = {"severity": "critical", "node": "pg2", "problem": "does not follow", "remedy": "rejoin it"}


@pytest.mark.parametrize(
    ("findings", "score", "problem"),
    [
        ([], WELL, ""),
        ([{**FINDING, "severity": "note"}], WELL, ""),
        ([{**FINDING, "severity": "warning"}, FINDING], IMPAIRED, "pg2 does not follow (and 1 more)"),
        ([{**FINDING, "severity": "warning", "node": None}], CAUTION, "db does not follow"),
    ],
)
def test_replication_counts_by_the_worst_that_the_scheduled_look_found(
    findings: list[dict[str, object]], score: float, problem: str
) -> None:
    world = World()
    world.pictures.put("db", {"findings": findings, "risk": {}}, START)

    found = {each.check: each for each in world.checkup.check_database_health().examined}["replication"]

    assert (found.score, found.problem) == (score, problem)


def test_replication_that_nobody_looks_at_is_unknown() -> None:
    world = World()
    world.clock.advance(61)

    found = {each.check: each for each in world.checkup.check_database_health().examined}["replication"]

    assert found.score is None
    assert "ha-tasks replication db" in found.remedy


def test_what_lies_outside_counts() -> None:
    world = World(external=(External(name="pay", kind=ExternalKind.TCP, target="127.0.0.1:1"),))
    world.outside.told["pay"] = Examined(subject="pay", check="tcp", score=DOWN, problem="no", remedy="call")

    status = world.monitor().monitor_system_health()

    assert not status.is_healthy
    assert status.external_dependencies.score == DOWN


class Base:
    """A platform's own health object."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def check_health(self) -> object:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "score"),
    [(True, 1.0), (False, 0.0), (0.4, 0.4), (1, 1.0), ({"status": "fine"}, 1.0), (None, 0.0), (7, 1.0)],
)
def test_a_base_s_own_word_counts_as_one_check(answer: object, score: float) -> None:
    status = World().monitor(Base(answer)).monitor_system_health()

    assert status.overall_score == score
    assert status.base_health.score == score


def test_a_base_that_raises_hides_nothing() -> None:
    world = World()
    world.judge("web", "unavailable", 0.0)

    status = world.monitor(Base(OSError("no route"))).monitor_system_health()

    assert {each["problem"].partition(" ")[0] for each in status.to_json()["diagnostics"]} == {"it", "the"}
    assert "raised OSError: no route" in status.base_health.examined[0].problem


def test_the_areas_can_be_asked_one_by_one() -> None:
    world = World()
    world.own = FakeOwnChecks(Examined(subject="acme.queue", check="age", score=0.9))
    monitor = world.monitor()

    areas = [
        monitor.checkup.check_own(),
        monitor.check_all_services_health(),
        monitor.check_infrastructure_health(),
        monitor.check_database_health(),
        monitor.check_external_dependencies(),
    ]

    assert [area.area for area in areas] == list(Area)
    assert monitor.calculate_health_score(areas) == 0.9


def test_a_person_reads_what_is_wrong_first_and_then_every_check() -> None:
    world = World()
    world.judge("web", "unavailable", 0.0)
    world.clock.advance(1)

    text = [text_of(line) for line in health.lines(world.monitor().monitor_system_health().to_json())]

    assert text[0].startswith("the system is not healthy: score 0.00, healthy from 0.8, asked ")
    assert text[1].startswith("0.00 web probes: it is unavailable since ")
    assert text[2].startswith("     do: ")
    assert "external: - (nothing to check)" in text
    assert any(line.startswith("machines") and " disk " in line for line in text)


def lonely(home: Path) -> None:
    """The template's platform, at an address of this machine at which nobody listens."""
    path = write_inventory(home)
    path.write_text(path.read_text().replace("127.0.0.1:", "127.7.7.7:"))


def test_the_command_asks_everything_and_its_exit_status_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HA_TASKS_CONFIG", raising=False)
    lonely(tmp_path)
    assert run(["--home", str(tmp_path), "migrate"]) == 0
    capsys.readouterr()

    status = run(["--home", str(tmp_path), "status", "--health", "--json"])

    told = json.loads(capsys.readouterr().out)
    assert status == 1
    assert told["schema"] == 1
    assert not told["is_healthy"]
    assert {each["subject"] for each in told["diagnostics"]} >= {"web", "db", "cache/cache1", "db1"}
    assert all(each["problem"] and each["remedy"] for each in told["diagnostics"])
    assert run(["--home", str(tmp_path), "status", "--health", "--watch"]) == 2


def test_the_scheduled_task_answers_the_look_and_keeps_it(tmp_path: Path) -> None:
    lonely(tmp_path)
    inventory = load(tmp_path / "ha-tasks.toml", {})
    store = Store(inventory.store_url())
    store.migrate()
    app = make_app("redis://127.7.7.7:1/0")
    register(app, Runtime(app, inventory))

    answer = app.tasks["ha.monitor_system_health"]()

    kept = store.health.latest()
    store.dispose()
    assert kept is not None
    assert kept[1] == json.loads(json.dumps(answer))
    assert answer["is_healthy"] is False


def test_what_was_seen_last_is_kept_and_shown_in_short_until_it_is_old() -> None:
    world = World()
    world.hosts.told["db1"] = replace(IDLE, disks={"/": 0.99})
    world.judge("web", "degraded", 0.5)

    status = world.monitor().monitor_system_health()

    assert world.book.latest() == (START, status.to_json())
    [line] = health.brief_lines(health.looked_at(world.book, START))
    assert text_of(line) == (
        "health: the system is not healthy: score 0.08, healthy from 0.8; db1 disk: 99% of / is in use, "
        "the limit is 90%; see: ha-tasks status --health"
    )
    world.clock.advance(46)
    [line] = health.brief_lines(health.looked_at(world.book, world.clock.now()))
    assert text_of(line).startswith("health: nobody has looked lately")


def test_it_is_made_of_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HA_TASKS_CONFIG", raising=False)
    lonely(tmp_path)

    made = health_system(tmp_path, Base(True))

    assert made.base is not None
    assert made.check_infrastructure_health().examined
