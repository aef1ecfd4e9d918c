"""``ha-tasks registry``: instances that register themselves, and all instances for Prometheus."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ha_tasks.cli.lines import DIM, GOOD, HEAD, WARN, Line, columns, moment, span
from ha_tasks.cli.numbers import NUMBER
from ha_tasks.cli.session import Session, pass_session, with_home, with_json
from ha_tasks.errors import UsageError
from ha_tasks.model.plain import Json

if TYPE_CHECKING:
    from ha_tasks.model.registration import Registration


@click.group("registry")
@with_home
@with_json
def command() -> None:
    """Instances that come and go: each registers under a lease and renews it.

    Those of HTTP services that give an ip:port are added to every HAProxy, and taken away when they leave.
    The inventory's instances need no registration.
    """


@command.command("list")
@with_home
@with_json
@pass_session
def list_(session: Session) -> None:
    """Every registration, and whether it counts as serving."""
    system = session.system()
    now = system.clock.now()
    _print(session, now, system.registry.registered(now))


@command.command("register")
@click.argument("service")
@click.argument("name")
@click.argument("address", metavar="HOST:PORT")
@click.option("--ttl", "ttl_s", type=float, default=30.0, show_default=True, metavar="S", help="Its lease.")
@click.option("--spare", is_flag=True, help="It does not serve yet, it could step in.")
@click.option("--meta", multiple=True, metavar="KEY=VALUE", help="Told on, to Prometheus as meta_KEY.")
@with_home
@with_json
@pass_session
def register(
    session: Session,
    *,
    service: str,
    name: str,
    address: str,
    ttl_s: float,
    spare: bool,
    meta: tuple[str, ...],
) -> None:
    """Register instance NAME of SERVICE. Renew it within the lease, or it counts as gone.

    A spare is known to every HAProxy and waits there in maintenance.
    """
    from ha_tasks.model.platform import Role
    from ha_tasks.model.registration import NewRegistration

    system = session.system()
    now = system.clock.now()
    new = NewRegistration(
        service=service,
        name=name,
        address=address,
        ttl_s=ttl_s,
        role=Role.SPARE if spare else Role.ACTIVE,
        metadata=_pairs(meta),
    )
    _print(session, now, [(system.registry.register(new, now), True)])


@command.command("renew")
@click.argument("service")
@click.argument("name")
@click.argument("lease", type=NUMBER)
@with_home
@with_json
@pass_session
def renew(session: Session, *, service: str, name: str, lease: int) -> None:
    """Say that NAME lives: LEASE, which its registration answered, lasts from now on again.

    Exit status 3: somebody has registered that name since. 2: it is not registered, so register it again.
    """
    system = session.system()
    now = system.clock.now()
    _print(session, now, [(system.registry.renew(service, name, lease, now), True)])


@command.command("remove")
@click.argument("service")
@click.argument("name")
@click.option("--lease", type=NUMBER, help="Only if it still is this one.")
@with_home
@pass_session
def remove(session: Session, service: str, name: str, lease: int | None) -> None:
    """Say that NAME leaves. Exit status 3: nobody else would be left to serve."""
    system = session.system()
    if not system.registry.remove(service, name, system.clock.now(), lease):
        raise UsageError(f"{name} of {service} is not registered; see: ha-tasks registry list")
    click.echo(f"{name} of {service} is removed")


@command.command("file-sd")
@click.option("--to", "file", type=click.Path(path_type=Path), help="Write this file at once, or not at all.")
@with_home
@pass_session
def file_sd(session: Session, file: Path | None) -> None:
    """Every instance, of the inventory and registered, for file_sd_configs of Prometheus."""
    system = session.system()
    text = json.dumps(system.registry.file_sd(system.clock.now()), indent=2, ensure_ascii=False)
    if file is None:
        click.echo(text)
        return
    # Prometheus reads whenever it likes: it must never see half a file.
    half = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        half.write_text(f"{text}\n", encoding="utf-8")
        half.replace(file)
    finally:
        half.unlink(missing_ok=True)
    click.echo(f"wrote {file}")


def _pairs(given: tuple[str, ...]) -> dict[str, str]:
    wrong = [pair for pair in given if "=" not in pair]
    if wrong:
        raise UsageError(f"--meta {wrong[0]} is no KEY=VALUE")
    return {key: value for key, _, value in (pair.partition("=") for pair in given)}


def _print(
    session: Session,
    now: datetime,
    found: list[tuple[Registration, bool]] | tuple[tuple[Registration, bool], ...],
) -> None:
    registrations = [described(registration, serves) for registration, serves in found]
    session.result({"at": now.isoformat(), "registrations": registrations}, lines)


def described(registration: Registration, serves: bool) -> Json:
    """A registration as plain JSON."""
    return {
        "service": registration.service,
        "name": registration.name,
        "address": registration.address,
        "role": str(registration.role),
        "metadata": dict(registration.metadata),
        "lease": registration.lease,
        "ttl_s": registration.ttl_s,
        "registered_at": registration.registered_at.isoformat(),
        "renewed_at": registration.renewed_at.isoformat(),
        "expires_at": registration.expires_at.isoformat(),
        "serves": serves,
    }


def lines(content: Json) -> Iterator[Line]:
    """A line for each."""
    now = content["at"]
    if not content["registrations"]:
        yield [("nobody has registered", DIM), ": the inventory's instances are all there are"]
        return
    yield from columns(
        ["SERVICE", "NAME", "ADDRESS", "ROLE", "LEASE", "LASTS", "UNTIL (UTC)", "STATE"],
        [
            [
                r["service"],
                (r["name"], HEAD),
                r["address"],
                r["role"],
                str(r["lease"]),
                span(r["ttl_s"]),
                moment(r["expires_at"], now),
                _state(r, now),
            ]
            for r in content["registrations"]
        ],
    )


def _state(registration: Json, now: str) -> tuple[str, str]:
    if registration["ttl_s"] == 0:
        return "left", DIM
    if datetime.fromisoformat(registration["expires_at"]) > datetime.fromisoformat(now):
        return "lives", GOOD
    return ("expired, the last known", WARN) if registration["serves"] else ("expired", DIM)
