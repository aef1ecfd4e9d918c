"""``ha-tasks rolling-restart``: restart every node that needs it, one after the other, the primary last."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from ha_tasks.cli.lines import BAD, GOOD, HEAD, WARN, Line, columns, show
from ha_tasks.cli.ordering import with_consent, with_waiting
from ha_tasks.cli.recover import judged, on_terminal
from ha_tasks.cli.runs import brief
from ha_tasks.cli.session import Session, pass_session, person, with_home, with_json
from ha_tasks.cli.switchover import carried_out, cluster_of, outcome, postgres_service, proposed
from ha_tasks.errors import Refused, UsageError
from ha_tasks.model.incident import IncidentKind
from ha_tasks.model.led_by_others import must_be_ours
from ha_tasks.model.plain import Json
from ha_tasks.model.rolling import Rolling, rolling
from ha_tasks.model.run import Run, RunState
from ha_tasks.workflows.planned_work import Ordered
from ha_tasks.workflows.restart_facts import node_states

if TYPE_CHECKING:
    from ha_tasks.bootstrap import System
    from ha_tasks.model.platform import Service


@click.command("rolling-restart")
@click.argument("service")
@click.option("--all", "everyone", is_flag=True, help="Also the nodes that do not need it.")
@click.option("--dry-run", is_flag=True, help="Only say who needs a restart and why; change nothing.")
@with_consent
@with_waiting(600.0, until="the end of each run")
@with_home
@with_json
@pass_session
def command(
    session: Session,
    *,
    service: str,
    everyone: bool,
    dry_run: bool,
    yes: bool,
    reason: str,
    local: bool,
    within_s: float,
) -> int:
    """Restart the nodes of SERVICE that wait for it: settings that need a restart, or newer programs of the
    same major version on their disk (a minor upgrade).

    Standbys one after the other, each out of the reads and back when it has caught up; then a switchover,
    by which the old primary is restarted as a standby. Each is a run of its own. At the first trouble it
    stops, with everything that was done in order; the same command again goes on from there.

    Exit status 0: nobody waits for a restart any more. 1: a run failed. 3: a check or a guard refused.
    """
    system = session.system(sending=not local and not dry_run)
    about = postgres_service(system, service)
    must_be_ours(about)
    found = _left(system, about, everyone=everyone, done=())
    _announce(session, found, about, dry_run=dry_run, yes=yes)
    if dry_run:
        return 0
    if found.trouble:
        raise Refused("; ".join(found.trouble))
    order = _Order(session, system, about, reason=reason, local=local, within_s=within_s)
    runs, done = order.carried_out(everyone=everyone)
    session.result(_result(about.name, runs, done), lines)
    return 0 if all(run.state is RunState.SUCCEEDED for run in runs) else 1


class _Order:
    """One call of the command, taken run by run."""

    def __init__(
        self, session: Session, system: System, service: Service, *, reason: str, local: bool, within_s: float
    ) -> None:
        self._session = session
        self._system = system
        self._service = service
        self._reason = reason
        self._local = local
        self._within_s = within_s

    def carried_out(self, *, everyone: bool) -> tuple[list[Run], list[str]]:
        """The runs, the last of which may have failed, and the nodes that were restarted by them."""
        runs: list[Run] = []
        done: list[str] = []
        while (found := _left(self._system, self._service, everyone=everyone, done=done)).left:
            if found.trouble:
                raise Refused("; ".join(found.trouble))
            before = cluster_of(self._system, self._service).primary
            self._session.tell(f"{found.left} left: {', '.join([*found.standbys, *[before] * found.switch])}")
            run = self._next(found)
            runs.append(run)
            if run.state is not RunState.SUCCEEDED:
                break
            node = found.standbys[0] if found.standbys else before
            if node in done:
                raise Refused(f"{node} was restarted and still waits: {'; '.join(found.why[node])}")
            done.append(node)
        return runs, done

    def _next(self, found: Rolling) -> Run:
        """Restarts the next standby, or hands the primary's work over once no standby waits."""
        kind = IncidentKind.RESTART_ORDERED if found.standbys else IncidentKind.SWITCHOVER_ORDERED
        node = found.standbys[0] if found.standbys else proposed(self._system, self._service)
        ordered = Ordered(
            kind=kind,
            service=self._service.name,
            instance=node,
            requested_by=person(),
            reason=self._reason or f"rolling restart of {self._service.name}",
            key=f"rolling-{uuid.uuid4()}",
        )
        verdicts = judged(self._system, self._service)
        return carried_out(
            self._session, self._system, ordered, verdicts, within_s=self._within_s, local=self._local
        )


def _left(system: System, service: Service, *, everyone: bool, done: tuple[str, ...] | list[str]) -> Rolling:
    states = node_states(system.control, system.agents, service)
    return rolling(cluster_of(system, service), states, everyone=everyone, done=done)


def _announce(session: Session, found: Rolling, service: Service, *, dry_run: bool, yes: bool) -> None:
    content: Json = {
        "service": service.name,
        "standbys": list(found.standbys),
        "switchover": found.switch,
        "why": {name: list(why) for name, why in found.why.items()},
        "trouble": list(found.trouble),
    }
    if dry_run:
        session.result(content, plan_lines)
        return
    if on_terminal(session):
        show(plan_lines(content))
    if not found.left or yes:
        return
    if not on_terminal(session):
        raise UsageError("nobody can be asked here; say --yes to begin, or --dry-run to see who waits")
    if not click.confirm("restart them in this order?"):
        raise Refused("it was not agreed to; nothing was changed")


def plan_lines(content: Json) -> Iterator[Line]:
    """Who is restarted, in which order, and why."""
    for trouble in content["trouble"]:
        yield [(trouble, BAD)]
    if not content["why"]:
        yield [("nobody waits for a restart", GOOD)]
        return
    last = [name for name in content["why"] if name not in content["standbys"]]
    rows = [
        [f"{no}", (name, HEAD), "restarted by a switchover" if name in last else "restarted", "; ".join(why)]
        for no, (name, why) in enumerate(
            ((name, content["why"][name]) for name in [*content["standbys"], *last]), start=1
        )
    ]
    yield from columns(["", "NODE", "HOW", "WHY"], rows)


def _result(service: str, runs: list[Run], done: list[str]) -> Json:
    failed = next((run for run in runs if run.state is not RunState.SUCCEEDED), None)
    switched = [outcome(run) for run in runs if "commit_primary" in run.outputs]
    return {
        "success": failed is None,
        "service": service,
        "restarted": done,
        "runs": [brief(run) for run in runs],
        "switchover": switched[0] if switched else None,
        "message": "" if failed is None else failed.error,
    }


def lines(content: Json) -> Iterator[Line]:
    """What was restarted, and how to go on."""
    names = ", ".join(content["restarted"]) or "nobody"
    if content["success"]:
        yield [("done", GOOD), f": restarted {names}"]
        if content["switchover"] is not None:
            yield [f"{content['switchover']['primary']} is the primary now"]
        return
    run = content["runs"][-1]
    yield [("stopped", BAD), f": {content['message']}"]
    yield [f"restarted so far: {names}; run {run['id']} {run['state']}: ha-tasks run {run['id']}"]
    yield [("when that is mended, go on with the same command", WARN)]
