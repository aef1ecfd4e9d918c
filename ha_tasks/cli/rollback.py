"""``ha-tasks rollback``: have a service served from another version of its files."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from ha_tasks.bootstrap.planned import planned_work_of
from ha_tasks.cli.lines import BAD, GOOD, Line, show
from ha_tasks.cli.ordering import with_consent, with_waiting
from ha_tasks.cli.plan import service_of, shown
from ha_tasks.cli.plan_view import lines as plan_lines
from ha_tasks.cli.plan_view import short
from ha_tasks.cli.recover import judged, on_terminal
from ha_tasks.cli.runs import brief
from ha_tasks.cli.session import Session, pass_session, person, with_home, with_json
from ha_tasks.cli.switchover import carried_out
from ha_tasks.errors import Refused, UsageError
from ha_tasks.model.incident import IncidentKind
from ha_tasks.model.led_by_others import must_be_ours
from ha_tasks.model.plain import Json
from ha_tasks.model.run import Run, RunState
from ha_tasks.workflows.planned_work import Ordered

if TYPE_CHECKING:
    from ha_tasks.bootstrap import System
    from ha_tasks.model.platform import Service
    from ha_tasks.model.versions import Version


@click.command("rollback")
@click.argument("service")
@click.option("--to", "word", metavar="VERSION", help="This version, like 7 (else the last good one).")
@click.option("--dry-run", is_flag=True, help="Only show the plan, and what would refuse it; change nothing.")
@with_consent
@with_waiting()
@with_home
@with_json
@pass_session
def command(
    session: Session,
    *,
    service: str,
    word: str | None,
    dry_run: bool,
    yes: bool,
    reason: str,
    local: bool,
    within_s: float,
) -> int:
    """Have SERVICE served from another version of its files: after a change that is not known to be good the
    last good one, otherwise the good one before what is there; with `--to` any, also a newer one
    (`ha-tasks versions SERVICE` lists them).

    Host by host: each file is checked, exchanged in one act and loaded; the next host follows when the
    instances of the one before answer; then users are asked for through the balancer. When anything of that
    fails, every file gets back what it held, and the version is marked bad.

    Exit status 0: users are served from it. 1: it failed, what was there is back or a person is needed.
    3: a guard refused, and nothing was changed.
    """
    system = session.system(sending=not local and not dry_run)
    about = service_of(system.platform, service)
    must_be_ours(about)
    version = system.rollback.way_back(about) if word is None else system.rollback.target(about, word)
    _announce(session, system, about, version, dry_run=dry_run, yes=yes)
    if dry_run:
        return 0
    ordered = Ordered(
        kind=IncidentKind.VERSION_ORDERED,
        service=about.name,
        instance=version.word,
        requested_by=person(),
        reason=reason or f"{about.name} served from {version.word}",
        key=f"rollback-{uuid.uuid4()}",
    )
    run = carried_out(session, system, ordered, judged(system, about), within_s=within_s, local=local)
    session.result(outcome(run), lines)
    return 0 if run.state is RunState.SUCCEEDED else 1


def _announce(
    session: Session, system: System, service: Service, version: Version, *, dry_run: bool, yes: bool
) -> None:
    """Shows the plan where a person looks, and asks; Refused when it is not agreed to."""
    if dry_run or on_terminal(session):
        work, kind = planned_work_of(system), IncidentKind.VERSION_ORDERED
        plan = work.plan(kind, service.name, version.word)
        content = shown(system, service, work.subject(kind, service.name, version.word), plan)
        if dry_run:
            session.result(content, plan_lines)
            return
        show(short(content))
    if yes:
        return
    if not on_terminal(session):
        raise UsageError("nobody can be asked here; say --yes to begin, or --dry-run to see the plan")
    if not click.confirm(f"have {service.name} served from {version.word}?"):
        raise Refused("it was not agreed to; nothing was changed")


def outcome(run: Run) -> Json:
    """What it came to, as plain JSON."""
    applied = run.outputs.get("apply_version", {})
    return {
        "success": run.state is RunState.SUCCEEDED,
        "run": brief(run),
        "version": ", ".join(run.plan.targets),
        "files": applied.get("files", []),
        "message": run.error,
    }


def lines(content: Json) -> Iterator[Line]:
    """What is served from now."""
    run = content["run"]
    if content["success"]:
        changed = ", ".join(content["files"]) or "nothing had to be exchanged"
        yield [("done", GOOD), f": {run['service']} is served from {content['version']} ({changed})"]
        return
    yield [("not done", BAD), f": {content['message']}"]
    back = run["state"] == RunState.ROLLED_BACK
    what = "every file has what it held before" if back else "a person is needed"
    yield [f"run {run['id']} {run['state']}: {what}; see: ha-tasks run {run['id']}"]
