"""Values that unit tests are made of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ha_tasks.model.platform import (
    Check,
    Host,
    Instance,
    Platform,
    PostgresSettings,
    Role,
    Routing,
    Service,
    ServiceKind,
)
from ha_tasks.model.probe import OutcomeKind, ProbeOutcome, Target

T0 = datetime(2026, 11, 24, 3, 0, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def outcome(instance, when, kind=OutcomeKind.OK, *, service="db", vantage="h1/a", rtt_s=0.002, **facts):
    return ProbeOutcome(
        target=Target(service=service, instance=instance),
        vantage=vantage,
        sent_at=at(when),
        known_at=at(when) + timedelta(seconds=rtt_s),
        kind=kind,
        rtt_s=rtt_s,
        facts=facts,
    )


def web() -> Service:
    def instance(name, port, role):
        return Instance(
            name=name, service="web", host="app", address=f"127.0.0.1:{port}", role=role, unit=name
        )

    return Service(
        name="web",
        kind=ServiceKind.HTTP,
        check=Check(path="/healthz"),
        routing=Routing(backend="web", entry="http://127.0.0.1:8080/"),
        instances=(
            instance("web1", 8101, Role.ACTIVE),
            instance("web2", 8102, Role.ACTIVE),
            instance("web3", 8103, Role.SPARE),
        ),
    )


def database() -> Service:
    return Service(
        name="db",
        kind=ServiceKind.POSTGRES,
        routing=Routing(
            backend="pg_write",
            entry="127.0.0.1:5540",
            read_backend="pg_read",
            read_entry="127.0.0.1:5541",
        ),
        postgres=PostgresSettings(database="app", user="ha_control"),
        instances=tuple(
            Instance(name=f"pg{n}", service="db", host=f"pg{n}", address=f"127.0.0.1:543{n}", role=Role.NODE)
            for n in (1, 2, 3)
        ),
    )


def platform(*services: Service) -> Platform:
    chosen = services or (web(), database())
    hosts = {i.host for s in chosen for i in s.instances}
    return Platform(
        name="test",
        services={s.name: s for s in chosen},
        hosts={h: Host(name=h, agent_url=f"http://127.0.0.1:7100/{h}") for h in hosts},
        balancers={},
    )
