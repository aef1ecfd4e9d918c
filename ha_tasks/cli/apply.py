"""``ha-tasks apply``: what ha-tasks.toml changes and touches; then it is the applied revision."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from ha_tasks.cli.lines import BAD, DIM, GOOD, HEAD, WARN, Line
from ha_tasks.cli.session import Session, pass_session, person, with_home, with_json
from ha_tasks.errors import Refused, UsageError
from ha_tasks.model.consequences import Consequence, Known, consequences
from ha_tasks.model.plain import Json
from ha_tasks.model.revision import NOTHING_APPLIED, Change, Revision

if TYPE_CHECKING:
    from ha_tasks.bootstrap import System


@click.command("apply")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only show the difference and what it touches.")
@click.option("--insist", is_flag=True, help="Apply it although something of it is refused.")
@click.option("--reason", default="", help="Why; kept with who did it.")
@with_home
@with_json
@pass_session
def command(session: Session, yes: bool, dry_run: bool, insist: bool, reason: str) -> None:
    """Compare ha-tasks.toml with the applied revision, show what differs and what that touches, and make
    it the applied one. Every process whose file is another takes no new work from then on.
    """
    from ha_tasks.bootstrap.revisions import changes_of

    system = session.system()
    # A playbook that cannot be read would stop every recovery: it raises PlaybookError here.
    _ = system.planner
    newest = system.store.revisions.newest()
    changes = changes_of(system.inventory, newest)
    # The first one touches everything there is.
    touched = consequences(changes, _known(system)) if newest else ()
    content = described(newest, changes, touched)
    if newest is not None and newest.sha256 == system.inventory.sha256:
        session.result({**content, "revision": newest.no, "applied": False}, lines)
        return
    refused = [each for each in touched if each.refused]
    if dry_run or (refused and not insist):
        session.result({**content, "applied": False}, lines)
        if dry_run:
            return
        raise Refused(
            f"{', '.join(each.about for each in refused)}: refused, nothing was applied; "
            "if you know better: ha-tasks apply --insist"
        )
    if not yes:
        _ask(session, content)
    applied = system.store.revisions.apply(
        system.inventory.content,
        changes,
        actor=person(),
        reason=reason,
        now=system.clock.now(),
        onto=newest.no if newest else None,
    )
    told: Json = {**content, "revision": applied.no, "applied": True, "asked": not yes}
    session.result(told, lines)


def _ask(session: Session, content: Json) -> None:
    """Raises UsageError where nobody can be asked, click.Abort for a no."""
    if session.as_json or not sys.stdin.isatty():
        raise UsageError(
            "nobody can be asked here; look first: ha-tasks apply --dry-run; then: ha-tasks apply --yes"
        )
    session.result(content, lines)
    click.confirm("apply it?", abort=True)


def _known(system: System) -> Known:
    clusters = {}
    for name in system.platform.services:
        try:
            clusters[name] = system.store.clusters.get(name)
        except KeyError:
            continue
    return Known(
        active=system.store.journal.active(),
        incidents=system.store.incidents.current(),
        clusters=clusters,
    )


def described(newest: Revision | None, changes: Sequence[Change], touched: Sequence[Consequence]) -> Json:
    """As JSON; ``revision`` is the applied one (None: there is none yet)."""
    return {
        "revision": newest.no if newest else None,
        "onto": newest.no if newest else None,
        "changes": [change.to_json() for change in changes],
        "touches": [each.to_json() for each in touched],
    }


def lines(content: Json) -> Iterator[Line]:
    """The difference, what it touches, and what became of it."""
    if not content.get("asked"):
        yield from difference_lines(content)
    if content.get("applied"):
        yield [(f"revision {content['revision']} is applied", GOOD)]
        yield ["processes with another file take no new work until it is theirs too; see: ha-tasks status"]


def standing_lines(applied: int | None, workers: Sequence[Json]) -> Iterator[Line]:
    """For ``status``: who takes no new work because of the inventory that it has, and what to do."""
    if applied is None:
        yield [("nothing is recovered", BAD), f": {NOTHING_APPLIED}"]
        return
    for worker in workers:
        if worker["kind"] == "worker" and worker["revision"] != applied:
            has = "has a file that was never applied" if worker["revision"] is None else "has revision "
            text = f" {has}{worker['revision'] or ''}, applied is {applied}, so it takes no new work: "
            yield [(worker["name"], WARN), text, "deploy the applied file there, or restart it"]


def difference_lines(content: Json) -> Iterator[Line]:
    """``+`` what is new, ``-`` what is gone, ``~`` what is another."""
    onto = content["onto"]
    if not content["changes"]:
        yield [f"the file is revision {onto}, which is applied: nothing to do"]
        return
    yield [("the first revision" if onto is None else f"changes to revision {onto}", HEAD), ":"]
    for change in content["changes"]:
        yield from _change_lines(change)
    for each in content["touches"]:
        mark = ("refused ", BAD) if each["refused"] else ("touches ", WARN)
        yield ["  ", mark, f"{each['about']}: {each['text']}"]


def _change_lines(change: Mapping[str, object]) -> Iterator[Line]:
    before, after = change["before"], change["after"]
    if before is None:
        yield ["  ", ("+ ", GOOD), f"{change['key']} ", (shown(after), DIM)]
    elif after is None:
        yield ["  ", ("- ", BAD), f"{change['key']} ", (shown(before), DIM)]
    else:
        yield ["  ", ("~ ", WARN), f"{change['key']} {shown(before)} -> {shown(after)}"]


def shown(value: object) -> str:
    """A value in one line; of a table the keys that a person asks for first."""
    if isinstance(value, Mapping):
        if isinstance(value.get("instances"), list | Mapping):
            names = [e["name"] if isinstance(e, Mapping) else e for e in value["instances"]]
            return f"({value.get('kind')}: {', '.join(str(name) for name in names)})"
        return "(" + ", ".join(f"{key} {shown(each)}" for key, each in value.items()) + ")"
    if isinstance(value, list):
        return "[" + ", ".join(shown(each) for each in value) + "]"
    return str(value)
