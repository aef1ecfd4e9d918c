"""``ha-tasks playbook``: list, show and check playbooks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ha_tasks.cli.lines import BAD, DIM, GOOD, HEAD, WARN, Line, columns, span
from ha_tasks.cli.session import Session, pass_session, with_home, with_json
from ha_tasks.errors import PlaybookError, UsageError
from ha_tasks.model.action import Traits
from ha_tasks.model.fault import closest
from ha_tasks.model.plain import Json
from ha_tasks.model.playbook import Approval, Playbook

if TYPE_CHECKING:
    from ha_tasks.inventory import Inventory


@click.group("playbook")
@with_home
@with_json
def command() -> None:
    """List, show and check playbooks: the shipped ones, and those of the inventory's directories."""


@command.command("list")
@with_home
@with_json
@pass_session
def list_(session: Session) -> None:
    """Every playbook, and which failure it is for."""
    content: Json = {"playbooks": [described(playbook) for playbook in _loaded(session)]}
    session.result(content, list_lines)


@command.command("show")
@click.argument("name")
@with_home
@with_json
@pass_session
def show(session: Session, name: str) -> None:
    """One playbook with its steps, guards and gates."""
    playbooks = {playbook.name: playbook for playbook in _loaded(session)}
    if name not in playbooks:
        raise UsageError(f'there is no playbook "{name}"; {closest(name, playbooks)}')
    session.result(described(playbooks[name]), show_lines)


@command.command("lint")
@click.argument("files", nargs=-1, metavar="[FILE|DIR]...", type=click.Path(path_type=Path))
@with_home
@with_json
@pass_session
def lint(session: Session, files: Sequence[Path]) -> int:
    """Say what would go wrong with FILES and the playbooks in DIRs, else with every playbook.

    Each finding with its file, step and mending. Exit status 2 when one of them is an error; warnings
    are for a person to judge. With an inventory, what it describes is looked at too.
    """
    from ha_tasks.disaster_recovery.lint import errors, findings
    from ha_tasks.disaster_recovery.playbooks import SHIPPED, read_files, read_playbooks

    inventory = _inventory(session)
    own = inventory.playbook_directories if inventory else ()
    shelf = read_files(_expanded(files)) if files else read_playbooks((SHIPPED, *own))
    found = findings(shelf, _traits(inventory), inventory.platform if inventory else None)
    wrong = errors(found)
    content: Json = {
        "ok": not wrong,
        "playbooks": [playbook.name for playbook in shelf.playbooks],
        "errors": len(wrong),
        "findings": [finding.to_json() for finding in found],
    }
    session.result(content, lint_lines)
    return 2 if wrong else 0


def _expanded(paths: Sequence[Path]) -> list[Path]:
    """Every file, and every playbook of each directory. PlaybookError for what is neither."""
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise PlaybookError(f"{missing[0]} is no file and no directory; name a playbook (*.toml)")
    return [file for path in paths for file in (sorted(path.glob("*.toml")) if path.is_dir() else [path])]


def _traits(inventory: Inventory | None) -> Mapping[str, Traits]:
    """Every action. Without an inventory one's own cannot be made, so their arguments are not judged."""
    from ha_tasks.adapters.clock import SystemClock
    from ha_tasks.bootstrap.actions import shipped_traits
    from ha_tasks.bootstrap.own_actions import offered, own_actions

    if inventory is not None:
        return {**shipped_traits(), **own_actions(inventory, SystemClock()).traits}
    return {**shipped_traits(), **{name: Traits(provider=o.provider) for name, o in offered()[0].items()}}


def _inventory(session: Session) -> Inventory | None:
    """The inventory if there is one: the shipped playbooks can be read without."""
    return session.inventory() if session.inventory_path.exists() else None


def _loaded(session: Session) -> tuple[Playbook, ...]:
    from ha_tasks.disaster_recovery.playbooks import load_playbooks

    inventory = _inventory(session)
    return load_playbooks(inventory.playbook_directories if inventory else ())


def described(playbook: Playbook) -> Json:
    """A playbook as plain JSON."""
    return {
        "name": playbook.name,
        "version": playbook.version,
        "summary": playbook.summary,
        "recovery_type": str(playbook.recovery_type),
        "mitigates": playbook.mitigates,
        "priority": playbook.priority,
        "sha256": playbook.sha256,
        "match": {
            "incident": str(playbook.match.incident),
            "kind": playbook.match.kind and str(playbook.match.kind),
            "service": playbook.match.service,
            "changed": playbook.match.changed,
        },
        "guards": {
            "cooldown_s": playbook.guards.cooldown_s,
            "min_healthy": playbook.guards.min_healthy,
            "max_targets": playbook.guards.max_targets,
            "max_share": playbook.guards.max_share,
            "approval": str(playbook.guards.approval),
        },
        "steps": [
            {
                "id": step.id,
                "action": str(step.action),
                "needs": list(step.needs),
                "args": dict(step.args),
                "undo": str(step.undo),
                "timeout_s": step.timeout_s,
                "attempts": step.attempts,
                "point_of_no_return": step.point_of_no_return,
            }
            for step in playbook.steps
        ],
        "verify": {
            "within_s": playbook.verify.within_s,
            "good_probes": playbook.verify.good_probes,
            "data": playbook.verify.data,
            "max_latency_ratio": playbook.verify.max_latency_ratio,
        },
    }


def _match(content: Json) -> str:
    match = content["match"]
    about = match["service"] or (f"any {match['kind']}" if match["kind"] else "any service")
    return f"{match['incident']} of {about}" + (", its files changed" if match["changed"] else "")


def list_lines(content: Json) -> Iterator[Line]:
    """A line for each."""
    yield from columns(
        ["PLAYBOOK", "VERSION", "FOR", "TYPE", "WHAT IT DOES"],
        [
            [(p["name"], HEAD), str(p["version"]), _match(p), p["recovery_type"], p["summary"]]
            for p in content["playbooks"]
        ],
    )


def show_lines(content: Json) -> Iterator[Line]:
    """A playbook as one reads it before trusting it."""
    yield [(content["name"], HEAD), f" v{content['version']}: {content['summary']}"]
    yield [
        f"for {_match(content)}, priority {content['priority']}",
        (f"  sha256 {content['sha256'][:12]}", DIM),
    ]
    guards, verify = content["guards"], content["verify"]
    yield [f"cool-down {span(guards['cooldown_s'])}, other healthy instances needed: {guards['min_healthy']}"]
    if guards["approval"] == Approval.ALWAYS:
        yield [("every run waits for a person: ha-tasks approve", WARN)]
    yield from columns(
        ["STEP", "ACTION", "ON THE WAY BACK", "LIMIT", "ATTEMPTS", "NEEDS"],
        [
            [s["id"], s["action"], _undo(s), span(s["timeout_s"]), str(s["attempts"]), ", ".join(s["needs"])]
            for s in content["steps"]
        ],
    )
    data = ", data gate" if verify["data"] else ""
    yield [f"then verified: {verify['good_probes']} good requests within {span(verify['within_s'])}{data}"]


def _undo(step: Json) -> str:
    if step["point_of_no_return"]:
        return "no way back from here"
    return "kept" if step["undo"] == "keep" else "undone"


def lint_lines(content: Json) -> Iterator[Line]:
    """A line for each finding, errors first."""
    for found in content["findings"]:
        where = f"{found['file']}: step {found['step']}" if found["step"] else found["file"]
        style = WARN if found["level"] == "warning" else BAD
        yield [(f"{found['level']}: ", style), f"{where}: {found['what']}; {found['mending']}"]
    if content["ok"]:
        yield [("ok", GOOD), f": {', '.join(content['playbooks'])}"]
    else:
        yield [(f"{content['errors']} to mend", BAD)]
