"""``ha-tasks haproxy``: lint a haproxy.cfg, or write one from the inventory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ha_tasks.cli.lines import BAD, DIM, GOOD, WARN, Line
from ha_tasks.cli.session import Session, pass_session, with_home, with_json
from ha_tasks.errors import UsageError
from ha_tasks.model.fault import closest
from ha_tasks.model.plain import Json

if TYPE_CHECKING:
    from ha_tasks.model.platform import Platform


@click.group("haproxy")
@with_home
@with_json
def command() -> None:
    """Lint a configuration of HAProxy, or write one with the settings that won the measurements."""


@command.command("lint")
@click.argument("file", type=click.Path(path_type=Path))
@with_home
@with_json
@pass_session
def lint(session: Session, file: Path) -> int:
    """Say what in FILE would cost requests, or execute them twice: line, measurement, mending.

    Exit status 2 when a finding is an error; warnings are for a person to judge. With an inventory it is
    known which backends stand in front of databases, and what must be there. Changes nothing.
    """
    from ha_tasks.model import haproxy_config, haproxy_lint

    platform = _platform(session)
    found = haproxy_lint.lint(
        _text(file),
        haproxy_config.database_backends(platform) if platform else frozenset(),
        haproxy_config.expected_servers(platform) if platform else {},
    )
    errors = [finding for finding in found if not finding.warning]
    content: Json = {
        "file": str(file),
        "ok": not errors,
        "errors": len(errors),
        "warnings": len(found) - len(errors),
        "findings": [finding.to_json() for finding in found],
    }
    session.result(content, lint_lines)
    return 2 if errors else 0


@command.command("config")
@click.option("--balancer", metavar="NAME", help="For which balancer; needed when there are several.")
@click.option(
    "--request-timeout",
    "request_timeout_s",
    type=click.FloatRange(min=0.05),
    default=5.0,
    show_default=True,
    metavar="S",
    help="Seconds within which a server must answer an HTTP request: a little above your slowest one.",
)
@with_home
@pass_session
def config(session: Session, balancer: str | None, request_timeout_s: float) -> None:
    """Print a haproxy.cfg for the services of the inventory. Writes no file and asks no server.

    Spares, and the nodes of a cluster that ha_tasks leads, start in maintenance: the running control plane
    opens who is to serve within two seconds.
    """
    from ha_tasks.model.haproxy_config import drawn, render

    platform = session.inventory().platform
    name = _chosen(platform, balancer)
    plan = drawn(platform, request_timeout_s)
    head = [
        f"haproxy.cfg of {name}, made by: ha-tasks haproxy config",
        "Needs HAProxy 2.6 or later. Make it anew when services or instances change;",
        "ha-tasks haproxy lint FILE says what a setting is for where it is missing.",
        *(f"left out: {service}: {why}" for service, why in plan.left_out.items()),
        "",
    ]
    click.echo(render(platform.balancers[name].socket, plan.pools, head), nl=False)


def _platform(session: Session) -> Platform | None:
    return session.inventory().platform if session.inventory_path.exists() else None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise UsageError(f"{file} is not there; name a configuration of HAProxy") from None
    except IsADirectoryError:
        raise UsageError(f"{file} is a directory; name a configuration of HAProxy") from None


def _chosen(platform: Platform, name: str | None) -> str:
    known = platform.balancers
    if name is not None:
        if name not in known:
            raise UsageError(f'the inventory has no balancer "{name}"; {closest(name, known)}')
        return name
    if len(known) != 1:
        raise UsageError(f"which balancer? --balancer NAME ({', '.join(sorted(known)) or 'there is none'})")
    return next(iter(known))


def lint_lines(content: Json) -> Iterator[Line]:
    """Three lines for each finding, in the order of the file."""
    for found in content["findings"]:
        style = WARN if found["level"] == "warning" else BAD
        place = f"{content['file']}:{found['line']}: {found['where']}: {found['what']}"
        yield [(f"{found['level']}: ", style), place, (f"  [{found['rule']}]", DIM)]
        yield [("  why:  ", DIM), found["why"]]
        yield [("  mend: ", DIM), found["mending"]]
    counted = f"{content['errors']} to mend, {content['warnings']} warnings"
    yield [("ok", GOOD), f": {content['warnings']} warnings"] if content["ok"] else [(counted, BAD)]
