"""``ha-tasks recover``: look at a service, and recover what has failed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from ha_tasks.cli.lines import BAD, GOOD, Line
from ha_tasks.cli.plan import service_of
from ha_tasks.cli.runs import brief
from ha_tasks.cli.session import Session, pass_session, with_home, with_json
from ha_tasks.errors import DeadlineExceeded, Refused
from ha_tasks.model.incident import IncidentState
from ha_tasks.model.plain import Json
from ha_tasks.model.run import TERMINAL, Run, RunState
from ha_tasks.model.verdict import Verdict, VerdictState

if TYPE_CHECKING:
    from ha_tasks.bootstrap import System
    from ha_tasks.model.platform import Service
    from ha_tasks.ports.clock import Clock
    from ha_tasks.ports.repositories import Journal

JUDGE_WITHIN_S = 5.0
PICKED_UP_WITHIN_S = 5.0
LOOK_EVERY_S = 0.2


@click.command("recover")
@click.argument("service")
@click.option("--local", is_flag=True, help="Take every step in this process: needs no broker and no worker.")
@click.option("--within", "within_s", default=300.0, show_default=True, help="Seconds to wait for the end.")
@with_home
@with_json
@pass_session
def command(session: Session, service: str, local: bool, within_s: float) -> int:
    """Look at SERVICE now and recover what has failed; the guards are asked as always.

    Exit status 0: healthy, or recovered and verified. 1: it failed, or it is in doubt. 3: a guard
    refused.
    """
    system = session.system(sending=not local)
    about = service_of(system.platform, service)
    if local:
        content = system.detect_and_recover(service, within_s=within_s).to_json()
        refused = None if content["success"] else _refusal(system, about)
    else:
        content, refused = _by_workers(session, system, about, within_s)
    if refused is not None:
        raise Refused(refused)
    session.result(content, lines)
    return 0 if content["success"] else 1


def _by_workers(
    session: Session, system: System, service: Service, within_s: float
) -> tuple[Json, str | None]:
    """Starts what is to be started, and watches the workers take it through. (result, refusal)"""
    verdicts = _judged(system, service)
    started = system.detection.react(verdicts).started
    runs = started or tuple(run for run in system.store.journal.active() if run.plan.service == service.name)
    if not runs:
        return _nothing_started(system, service, verdicts)
    ended = [watched(session, system.store.journal, system.clock, run, within_s) for run in runs]
    good = all(run.state is RunState.SUCCEEDED for run in ended)
    content: Json = {
        "success": good,
        "message": "; ".join(f"run {r.id} {r.state}" + (f": {r.error}" if r.error else "") for r in ended),
        "services_recovered": [service.name] if good else [],
        "runs": [brief(run) for run in ended],
    }
    return content, None


def _judged(system: System, service: Service) -> tuple[Verdict, ...]:
    """Looks until nothing is in doubt, or for five seconds."""
    ends = system.clock.monotonic() + JUDGE_WITHIN_S
    while True:
        system.detection.look([service])
        verdicts = system.detection.judge([service])
        if not _doubts(verdicts) or system.clock.monotonic() >= ends:
            return verdicts
        system.clock.pause(LOOK_EVERY_S)


def _doubts(verdicts: tuple[Verdict, ...]) -> list[str]:
    doubtful = (VerdictState.SUSPECT, VerdictState.BLIND)
    return [f"{v.target.instance}: {v.evidence}" for v in verdicts if v.state in doubtful]


def _nothing_started(
    system: System, service: Service, verdicts: tuple[Verdict, ...]
) -> tuple[Json, str | None]:
    refused = _refusal(system, service)
    doubts = _doubts(verdicts)
    message = "; ".join(doubts) or f"{service.name} is healthy"
    return {"success": not doubts, "message": message, "services_recovered": [], "runs": []}, refused


def _refusal(system: System, service: Service) -> str | None:
    """What stands in the way of an incident of the service; None when nothing does."""
    for incident in system.store.incidents.current():
        blocked = incident.state in (IncidentState.BLOCKED, IncidentState.ESCALATED) and incident.holds_key
        if incident.service == service.name and blocked:
            last = system.store.incidents.timeline(incident.id)[-1]
            return f"I-{incident.id} is {incident.state}: {last.text}"
    return None


def watched(session: Session, journal: Journal, clock: Clock, run: Run, within_s: float) -> Run:
    """The run at its end, each turn told. DeadlineExceeded when it takes longer, or nobody takes it up."""
    began, told = clock.monotonic(), ""
    while run.state not in TERMINAL:
        waited = clock.monotonic() - began
        if waited > within_s:
            raise DeadlineExceeded(
                f"run {run.id} has not ended after {within_s:g} s; see: ha-tasks run {run.id}"
            )
        where = str(brief(run)["where"])
        if where != told:
            session.tell(f"run {run.id} {run.state}: {where}")
            told = where
        if run.fence == 0 and waited > PICKED_UP_WITHIN_S:
            raise DeadlineExceeded(
                f"no worker has taken run {run.id} up; start the workers, "
                f"or: ha-tasks recover {run.plan.service} --local"
            )
        clock.pause(LOOK_EVERY_S)
        run = journal.get(run.id)
    return run


def lines(content: Json) -> Iterator[Line]:
    """What it came to."""
    verdict = ("done", GOOD) if content["success"] else ("not done", BAD)
    yield [verdict, f": {content['message']}"]
    if content.get("recovery_time") is not None:
        yield [f"{content['recovery_time']:.1f} s from the first failed probe to the verified end"]
