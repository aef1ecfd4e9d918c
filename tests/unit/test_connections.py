"""``check --connect``: what each answer is made of, and the remedy of each that is not well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ha_tasks.cli.check import doorway
from ha_tasks.cli.connections import Answer, Lines, answers, remedy_for
from ha_tasks.cli.replication_checks import skewed
from ha_tasks.errors import AgentRefused, AgentUnreachable, ServiceUnreachable
from ha_tasks.inventory import load
from ha_tasks.model.balancer import ServerState
from ha_tasks.model.platform import (
    External,
    ExternalKind,
    ManagedBy,
    PatroniApi,
    Platform,
    Service,
    VersionedFile,
)
from ha_tasks.model.probe import OutcomeKind, ProbeOutcome, Target
from ha_tasks.model.system_health import Examined
from tests.fakes.balancer import FakeBalancer
from tests.fakes.checks import FakeExternalCheck
from tests.fakes.clock import START as NOW
from tests.fakes.cluster_manager import FakeClusterManager
from tests.unit.inventory_files import write_inventory

ALL = [
    *(("web", f"web{n}") for n in (1, 2, 3)),
    *((backend, f"pg{n}") for backend in ("pg_write", "pg_read") for n in (1, 2, 3)),
]


def having(servers: Sequence[tuple[str, str]]) -> FakeBalancer:
    return FakeBalancer(dict.fromkeys(servers, ServerState.READY))


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return load(write_inventory(tmp_path), {}).platform


def outcome(
    service: str, instance: str, kind: OutcomeKind = OutcomeKind.OK, detail: str = ""
) -> ProbeOutcome:
    return ProbeOutcome(
        target=Target(service=service, instance=instance),
        vantage="h/p",
        probe="http",
        sent_at=NOW,
        known_at=NOW,
        kind=kind,
        rtt_s=0.003,
        detail=detail,
    )


def well(services: Sequence[Service]) -> list[ProbeOutcome]:
    return [outcome(service.name, each.name) for service in services for each in service.instances]


LINES = Lines(
    probe=well,
    node_status=lambda _: None,
    unit_status=lambda _, __: None,
    balancers={"edge": having(ALL)},
    entry=lambda _: None,
    manager=FakeClusterManager(("pg1", "pg2", "pg3")).report,
    broker=lambda: None,
    store=lambda: None,
    outside=FakeExternalCheck().examine,
)


def ill(found: Sequence[Answer]) -> list[Answer]:
    return [answer for answer in found if not answer.ok]


def test_when_everybody_answers_every_server_of_the_inventory_has_a_row(platform: Platform):
    found = answers(platform, LINES)

    assert ill(found) == []
    assert [answer.what.split(" (")[0] for answer in found] == [
        "store",
        "broker",
        *(f"services.web.instances.web{n}" for n in (1, 2, 3)),
        *(f"services.db.instances.pg{n}" for n in (1, 2, 3)),
        "services.cache.instances.cache1",
        *("hosts.db1", "hosts.db2", "hosts.db3"),
        *("hosts.app1",) * 3,
        "balancers.edge",
        "services.web.routing",
        "services.db.routing",
    ]


def test_what_lies_outside_is_asked_too_and_told_with_its_remedy(platform: Platform):
    kind = ExternalKind.TCP
    outside = {name: External(name=name, kind=kind, target="10.0.0.9:25") for name in ("mail", "pay")}
    down = Examined(subject="mail", check="tcp", score=0.0, problem="no answer in time", remedy="call them")
    lines = replace(LINES, outside=FakeExternalCheck({"mail": down}).examine)

    found = answers(replace(platform, external=outside), lines)

    assert [answer.what for answer in found][-2:] == [f"external.{n} (10.0.0.9:25)" for n in ("mail", "pay")]
    (answer,) = ill(found)
    assert (answer.said, answer.remedy) == ("no answer in time", "call them")


def test_a_server_that_the_balancer_does_not_have_is_told(platform: Platform):
    lines = replace(LINES, balancers={"edge": having(ALL[1:])})

    (answer,) = ill(answers(platform, lines))

    assert (answer.what, answer.said) == ("balancers.edge", "has no server web/web1")
    assert "add it to haproxy.cfg" in answer.remedy


def test_a_file_that_its_agent_does_not_know_is_told(platform: Platform):
    def refused(host: str, file: str) -> None:
        raise AgentRefused(f"there is no file {file} here; add [files.{file}] to the agent's file")

    web = replace(platform.services["web"], files=(VersionedFile(name="site", host="app1"),))
    served = replace(platform, services={**platform.services, "web": web})

    (answer,) = ill(answers(served, replace(LINES, file_status=refused)))

    assert answer.what == "hosts.app1 (file site)"
    assert "add [files.site]" in answer.said


def test_a_silent_agent_is_told_for_everything_that_it_is_asked_about(platform: Platform):
    def silent(node: str) -> None:
        raise AgentUnreachable(f"{node} did not answer")

    found = ill(answers(platform, replace(LINES, node_status=silent)))

    assert [answer.what for answer in found] == [f"hosts.db{n} (node pg{n})" for n in (1, 2, 3)]
    assert (
        found[0].remedy == "start the agent there, with the same key as agents.key; is hosts.db1.agent right?"
    )


def test_a_broker_that_cannot_be_asked_is_no_fault(platform: Platform):
    found = answers(platform, replace(LINES, broker=None))

    assert ill(found) == []
    assert found[1].said == "not asked: only redis and rediss can be"


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("refused: nobody", "is services.web.routing.entry the balancer's port"),
        ("FATAL: password authentication failed", "is services.web.routing.entry the balancer's port"),
    ],
)
def test_an_entry_that_does_not_serve_is_told(platform: Platform, said: str, remedy: str):
    def closed(service: Service) -> None:
        if service.name == "web":
            raise ServiceUnreachable(said)

    (answer,) = ill(answers(platform, replace(LINES, entry=closed)))

    assert (answer.what, answer.said) == ("services.web.routing (http://127.0.0.1:8080/)", said)
    assert answer.remedy.startswith(remedy)


def test_a_wrong_password_at_the_entry_has_the_remedy_of_a_wrong_password(platform: Platform):
    def closed(service: Service) -> None:
        if service.name == "db":
            raise ServiceUnreachable("FATAL:  password authentication failed")

    (answer,) = ill(answers(platform, replace(LINES, entry=closed)))

    assert answer.remedy == "put the right password where services.db.postgres.password leads"


@pytest.mark.parametrize(
    ("service", "kind", "detail", "remedy"),
    [
        (
            "db",
            OutcomeKind.ERROR,
            'FATAL: password authentication failed for user "x"',
            "put the right password",
        ),
        (
            "db",
            OutcomeKind.ERROR,
            'FATAL: no pg_hba.conf entry for host "x"',
            "let services.db.postgres.user in",
        ),
        (
            "db",
            OutcomeKind.ERROR,
            'FATAL: role "x" does not exist',
            "create the role services.db.postgres.user",
        ),
        (
            "db",
            OutcomeKind.ERROR,
            'FATAL: database "x" does not exist',
            "is services.db.postgres.database right?",
        ),
        ("db", OutcomeKind.ERROR, "FATAL: too many clients", "it answers, but not as it should"),
        (
            "cache",
            OutcomeKind.ERROR,
            "-NOAUTH Authentication required.",
            "put the right password where services.cac",
        ),
        ("web", OutcomeKind.ERROR, "status 404", "is services.web.check right (path, expect_status)?"),
        ("web", OutcomeKind.REFUSED, "", "nobody listens there: start it, or mend address"),
        ("web", OutcomeKind.TIMEOUT, "", "is the address right, a firewall in between, or check.timeout_s"),
    ],
)
def test_each_failure_of_a_probe_has_its_remedy(
    platform: Platform, service: str, kind: OutcomeKind, detail: str, remedy: str
):
    found = platform.services[service]
    failed = outcome(service, found.instances[0].name, kind, detail)

    assert remedy_for(found, failed).startswith(remedy)
    assert [a.remedy for a in ill(answers(platform, replace(LINES, probe=lambda _: [failed])))] == [
        remedy_for(found, failed)
    ]


def test_the_balancers_port_is_asked_like_an_instance(platform: Platform):
    web, db = platform.services["web"], platform.services["db"]
    assert web.routing is not None
    secure = replace(web, routing=replace(web.routing, entry="https://shop.example.com/x"))
    plain = replace(web, routing=replace(web.routing, entry="http://shop.example.com"))

    assert doorway(web).address == "127.0.0.1:8080"
    assert doorway(db).address == "127.0.0.1:5540"
    assert doorway(secure).address == "shop.example.com:443"
    assert doorway(plain).address == "shop.example.com:80"
    with pytest.raises(ServiceUnreachable, match="cache has no routing"):
        doorway(platform.services["cache"])


def led_by_patroni(platform: Platform) -> Platform:
    db = replace(
        platform.services["db"],
        managed_by=ManagedBy.PATRONI,
        patroni=PatroniApi(urls=("http://127.0.0.1:8008",)),
    )
    return replace(platform, services={**platform.services, "db": db})


def test_patroni_is_asked_and_its_nodes_have_no_agent_of_ours(platform: Platform):
    found = answers(led_by_patroni(platform), LINES)

    assert [(a.what, a.said) for a in found if "patroni" in a.what] == [
        ("services.db.patroni", "answers, pg1 leads")
    ]
    assert not [answer.what for answer in found if "node pg" in answer.what]


def test_a_patroni_that_is_away_or_knows_other_names_says_what_mends_it(platform: Platform):
    away = FakeClusterManager()
    away.reachable = False

    (silent,) = ill(answers(led_by_patroni(platform), replace(LINES, manager=away.report)))
    (strange,) = ill(answers(led_by_patroni(platform), replace(LINES, manager=FakeClusterManager().report)))

    assert "services.db.patroni.api" in silent.remedy
    assert "only one side knows n1, n2, n3, pg1, pg2, pg3" in strange.said


@pytest.mark.parametrize(
    ("clock", "told"),
    [
        (None, ""),
        (100.0, ""),
        (95.1, ""),
        (106.4, ""),
        (93.0, "the agent's clock is 7 s behind ours"),
        (131.0, "the agent's clock is 30 s ahead of ours"),
    ],
)
def test_an_agents_clock_is_told_when_it_cannot_be_right(clock: float | None, told: str):
    asked, answered = (datetime.fromtimestamp(at, UTC) for at in (100.0, 101.5))

    assert skewed(clock, asked, answered) == told


def test_a_standby_without_sessions_is_told_by_its_refusal(platform: Platform):
    refused = outcome("db", "pg2", OutcomeKind.ERROR, "the database system is not accepting connections")

    assert "hot_standby = on" in remedy_for(platform.services["db"], refused)
