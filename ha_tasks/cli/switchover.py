"""``ha-tasks switchover``: hand the primary's work over to a standby, by plan and without loss."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from ha_tasks.bootstrap.planned import planned_work_of
from ha_tasks.cli.led_by_others import switched_over
from ha_tasks.cli.lines import BAD, GOOD, WARN, Line, show, span
from ha_tasks.cli.ordering import with_consent, with_waiting
from ha_tasks.cli.plan import service_of, shown
from ha_tasks.cli.plan_view import lines as plan_lines
from ha_tasks.cli.plan_view import short
from ha_tasks.cli.recover import judged, on_terminal, watched
from ha_tasks.cli.runs import brief
from ha_tasks.cli.session import Session, pass_session, person, with_home, with_json
from ha_tasks.errors import ActionFailed, DeadlineExceeded, Refused, UsageError
from ha_tasks.model.fault import closest
from ha_tasks.model.incident import IncidentKind
from ha_tasks.model.led_by_others import must_be_ours
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import ManagedBy, ServiceKind
from ha_tasks.model.precedence import ranks
from ha_tasks.model.run import Run, RunState
from ha_tasks.model.switchover import successor
from ha_tasks.workflows.planned_work import Ordered
from ha_tasks.workflows.switchover_facts import standbys_seen

if TYPE_CHECKING:
    from ha_tasks.bootstrap import System
    from ha_tasks.model.cluster import Cluster
    from ha_tasks.model.platform import Service
    from ha_tasks.model.verdict import Verdict

PAUSED_BY = ("pause_pooler", "isolate_primary")
OPENED_BY = ("resume_pooler", "route_writes")


@click.command("switchover")
@click.argument("service")
@click.option("--to", "node", metavar="NODE", help="The standby that takes over (else the furthest one).")
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
    node: str | None,
    dry_run: bool,
    yes: bool,
    reason: str,
    local: bool,
    within_s: float,
) -> int:
    """Hand the work of SERVICE's primary over to a standby, by plan: nothing acknowledged is lost.

    The primary ends with a clean shutdown and comes back as a standby, without a rewind. With a pooler
    (`[services.NAME.pooler]`) clients wait for about a second; without one they lose their sessions and come
    back. Until the promotion every trouble puts everything back. Going back later is the same command with
    `--to` the old primary; it never happens by itself. Where Patroni leads, Patroni is asked to do it.

    Exit status 0: done and verified. 1: it failed; what that means is said. 3: a check or a guard refused.
    """
    system = session.system(sending=not local and not dry_run)
    about = postgres_service(system, service)
    if about.managed_by is ManagedBy.PATRONI:
        return switched_over(session, system, about, node, dry_run=dry_run, yes=yes, reason=reason)
    must_be_ours(about)
    candidate = node or proposed(system, about)
    _must_be_of(about, candidate)
    verdicts = judged(system, about)
    _announce(session, system, about, candidate, dry_run=dry_run, yes=yes)
    if dry_run:
        return 0
    ordered = Ordered(
        kind=IncidentKind.SWITCHOVER_ORDERED,
        service=about.name,
        instance=candidate,
        requested_by=person(),
        reason=reason or f"switchover to {candidate}",
        key=f"switchover-{uuid.uuid4()}",
    )
    run = carried_out(session, system, ordered, verdicts, within_s=within_s, local=local)
    session.result(outcome(run), lines)
    return 0 if run.state is RunState.SUCCEEDED else 1


def postgres_service(system: System, name: str) -> Service:
    """The service of that name; UsageError when it is no PostgreSQL cluster."""
    service = service_of(system.platform, name)
    if service.kind is not ServiceKind.POSTGRES:
        raise UsageError(f"{name} is of kind {service.kind}; only a PostgreSQL service has a primary")
    return service


def carried_out(
    session: Session,
    system: System,
    ordered: Ordered,
    verdicts: Sequence[Verdict],
    *,
    within_s: float,
    local: bool,
) -> Run:
    """The run at its end: driven here, or watched while workers take it through."""
    run = planned_work_of(system).begin(ordered, verdicts)
    session.tell(f"run {run.id}: {run.plan.summary}")
    if not local:
        return watched(session, system.store.journal, system.clock, run, within_s)
    ended = system.orchestrator.drive(run.id, system.clock.now() + timedelta(seconds=within_s))
    if ended.ended_at is None:
        raise DeadlineExceeded(f"run {run.id} has not ended after {within_s:g} s; see: ha-tasks run {run.id}")
    return ended


def outcome(run: Run) -> Json:
    """What it came to, as plain JSON. ``pause_s``: how long nobody could write, by the steps' own times."""
    outputs = run.outputs
    restored = outputs.get("restore_redundancy", {})
    return {
        "success": run.state is RunState.SUCCEEDED,
        "run": brief(run),
        "primary": outputs.get("commit_primary", {}).get("primary"),
        "from": outputs.get("open_epoch", {}).get("primary"),
        "pause_s": pause_s(run),
        "redundancy": restored.get("restored"),
        "outstanding": restored.get("why", ""),
        "message": run.error,
    }


def pause_s(run: Run) -> float | None:
    """From the first step that holds writes to the last that lets them go on; None: it did not come there."""
    began = [s.started_at for s in run.steps if s.planned.id in PAUSED_BY and s.started_at]
    ended = [s.ended_at for s in run.steps if s.planned.id in OPENED_BY and s.ended_at]
    return (max(ended) - min(began)).total_seconds() if began and len(ended) == len(OPENED_BY) else None


def lines(content: Json) -> Iterator[Line]:
    """Who is primary now, how long writes were held, what is outstanding."""
    run = content["run"]
    if not content["success"]:
        undone = run["state"] == RunState.ROLLED_BACK
        yield [("not done", BAD), f": {content['message']}"]
        what = f"{content['from'] or 'the primary'} goes on as primary" if undone else "a person is needed"
        yield [f"run {run['id']} {run['state']}: {what}; see: ha-tasks run {run['id']}"]
        return
    held = "" if content["pause_s"] is None else f", writes were held for {span(content['pause_s'])}"
    yield [("done", GOOD), f": {content['primary']} is the primary{held}"]
    if content["redundancy"] is False:
        yield [("redundancy is not back yet", WARN), f": {content['outstanding']}"]
    yield [f"the way back: ha-tasks switchover {run['service']} --to {content['from']}"]


def cluster_of(system: System, service: Service) -> Cluster:
    """What is recorded of it; ActionFailed when it is not in care."""
    try:
        return system.store.clusters.get(service.name)
    except KeyError as error:
        name = service.name
        raise ActionFailed(f"{name} is not in care yet; look first: ha-tasks adopt {name}") from error


def proposed(system: System, service: Service) -> str:
    """The standby that would take over where a person names none; Refused when none could."""
    cluster = cluster_of(system, service)
    others = [i.name for i in service.instances if i.name != cluster.primary]
    order = ranks(service, cluster.primary)
    best = successor(cluster, standbys_seen(system.agents, others), ranks=order)
    if best is None:
        raise Refused(f"no standby of {service.name} could take over now; see: ha-tasks status")
    return best


def _must_be_of(service: Service, node: str) -> None:
    names = [i.name for i in service.instances]
    if node not in names:
        raise UsageError(f'{service.name} has no node "{node}"; {closest(node, names)}')


def _announce(
    session: Session, system: System, service: Service, candidate: str, *, dry_run: bool, yes: bool
) -> None:
    """Shows the plan where a person looks, and asks; Refused when it is not agreed to."""
    if dry_run or on_terminal(session):
        work, kind = planned_work_of(system), IncidentKind.SWITCHOVER_ORDERED
        plan, subject = work.plan(kind, service.name, candidate), work.subject(kind, service.name, candidate)
        content = shown(system, service, subject, plan)
        if dry_run:
            session.result(content, plan_lines)
            return
        show(short(content))
    if yes:
        return
    if not on_terminal(session):
        raise UsageError("nobody can be asked here; say --yes to begin, or --dry-run to see the plan")
    if not click.confirm(f"have {candidate} take over?"):
        raise Refused("it was not agreed to; nothing was changed")
