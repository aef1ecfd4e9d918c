"""``ha-tasks recover``: look at a service, and recover what has failed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from ha_tasks.cli.accepting import acceptance_of, with_confirm_off
from ha_tasks.cli.lines import BAD, GOOD, Line, show
from ha_tasks.cli.numbers import BYTES
from ha_tasks.cli.ordering import with_waiting
from ha_tasks.cli.plan import service_of, shown, subject
from ha_tasks.cli.plan_view import SHORT, changed, changed_lines, short
from ha_tasks.cli.runs import brief
from ha_tasks.cli.session import Session, pass_session, person, with_home, with_json
from ha_tasks.cli.shown_plans import keep, recall
from ha_tasks.errors import DeadlineExceeded, PlaybookError, Refused
from ha_tasks.model.incident import Incident, IncidentState
from ha_tasks.model.led_by_others import must_be_ours
from ha_tasks.model.plain import Json
from ha_tasks.model.plan_hash import hash_word, is_named, plan_hash
from ha_tasks.model.run import TERMINAL, Run, RunState
from ha_tasks.model.verdict import Verdict, VerdictState

if TYPE_CHECKING:
    from ha_tasks.bootstrap import System
    from ha_tasks.model.platform import Service
    from ha_tasks.model.playbook import Acceptance, Plan
    from ha_tasks.ports.clock import Clock
    from ha_tasks.ports.repositories import Journal

JUDGE_WITHIN_S = 5.0
PICKED_UP_WITHIN_S = 5.0
LOOK_EVERY_S = 0.2
STUCK = (
    IncidentState.BLOCKED,
    IncidentState.SUPPRESSED,
    IncidentState.AWAITING_APPROVAL,
    IncidentState.ESCALATED,
)
"""States in which an incident gets no further by itself."""


@click.command("recover")
@click.argument("service")
@click.option("--plan", "word", metavar="HASH", help="Run this plan and no other; 8 digits of it will do.")
@click.option("--ask", is_flag=True, help="Show the plan and ask before it begins.")
@click.option(
    "--accept-data-loss",
    "accepted_bytes",
    type=BYTES,
    metavar="BYTES",
    help="Promote the furthest standby that answers although up to so many bytes are lost by it.",
)
@with_confirm_off
@with_waiting()
@with_home
@with_json
@pass_session
def command(
    session: Session,
    *,
    service: str,
    word: str | None,
    ask: bool,
    accepted_bytes: int | None,
    off: tuple[str, ...],
    local: bool,
    within_s: float,
) -> int:
    """Look at SERVICE now and recover what has failed. Maintenance, a cool-down and a promotion that was
    only just now do not keep it back, as they do what starts by itself; all other guards are asked.

    On a terminal the plan is shown in short before it begins. With --plan only that plan is run: when it
    would be another one by now, the difference is shown and, on a terminal, asked about.

    Where a failover was refused because too few standbys answer, --accept-data-loss has the furthest of
    them promoted, if what may be lost is known and not more, and the old primary is certainly dead: by its
    agent's word, its power switch (`stonith`), or yours (--confirm-off). What may be lost is recorded.

    Exit status 0: healthy, or recovered and verified. 1: it failed, or it is in doubt. 3: a guard
    refused, or the plan of --plan is another one or has nothing to mend.
    """
    wanted = None if word is None else hash_word(word)
    system = session.system(sending=not local)
    about = service_of(system.platform, service)
    must_be_ours(about)
    accepts = acceptance_of(about, accepted_bytes, off)
    verdicts = judged(system, about)
    if wanted is None:
        wanted = _announced(session, system, about, verdicts, ask=ask)
    begun = _begun(session, system, about, verdicts, wanted, accepts=accepts)
    if begun is None:
        return Refused.exit_status
    runs, wanted = begun
    content, refused = _recovered(session, system, about, runs, wanted, within_s=within_s, local=local)
    if refused is None and word is not None and not runs:
        refused = f"plan {word} was not run: {content['message']}; nothing was changed"
    if refused is not None:
        raise Refused(refused)
    session.result(content, lines)
    return 0 if content["success"] else 1


def _announced(
    session: Session, system: System, service: Service, verdicts: tuple[Verdict, ...], *, ask: bool
) -> str | None:
    """Shows the plan in short on a terminal; the hash that was agreed to, when it was asked for."""
    if not ask and not on_terminal(session):
        return None
    found = _expected(system, service, verdicts)
    if found is None:
        return None
    incident, plan = found
    if on_terminal(session):
        show(short(shown(system, service, incident, plan)))
    if not ask:
        return None
    if not click.confirm(f"run plan {plan_hash(plan)[:SHORT]}?", err=session.as_json):
        raise Refused("it was not agreed to; nothing was changed")
    return plan_hash(plan)


def _expected(
    system: System, service: Service, verdicts: tuple[Verdict, ...]
) -> tuple[Incident, Plan] | None:
    """What would be started now; None when nothing would, or a run is under way."""
    failed = [v.target.instance for v in verdicts if v.state is VerdictState.FAILED]
    if not failed or _active(system, service):
        return None
    primary = system.detection.primary_of(service)
    instance = primary if primary in failed else failed[0]
    incident = subject(service, system.store.incidents.current(), primary, instance, system.clock.now())
    try:
        return incident, system.planner.create_recovery_plan(incident)
    except PlaybookError:  # what follows escalates it, and says so
        return None


def _begun(
    session: Session,
    system: System,
    service: Service,
    verdicts: tuple[Verdict, ...],
    wanted: str | None,
    *,
    accepts: Acceptance | None,
) -> tuple[tuple[Run, ...], str | None] | None:
    """The runs to be watched and the hash that was agreed to; None: the plan is another one by now."""
    while True:
        found = system.detection.react(verdicts, only=wanted, asked_by=person(), accepts=accepts)
        if wanted is None or found.started or not found.others:
            runs = found.started or _active(system, service)
            _must_be(runs, wanted)
            return runs, wanted
        wanted = _agreed_anew(session, wanted, found.others[0])
        if wanted is None:
            return None
        verdicts = judged(system, service)


def _agreed_anew(session: Session, wanted: str, now: Plan) -> str | None:
    """Shows what has changed since that plan; on a terminal, the new hash when it is agreed to."""
    report = changed(recall(session.root, wanted), now)
    keep(session.root, now)
    if not on_terminal(session):
        text = f"the plan is another one now: {report['hash']}; nothing was changed"
        content: Json = {"success": False, "message": text, "services_recovered": [], "runs": []}
        session.result({**content, "plan": report}, lambda _: changed_lines(report))
        return None
    show(changed_lines(report))
    if not click.confirm(f"run plan {report['hash'][:SHORT]} instead?"):
        raise Refused("it was not agreed to; nothing was changed")
    return str(report["hash"])


def on_terminal(session: Session) -> bool:
    """True when a person reads and can answer."""
    return sys.stdin.isatty() and sys.stdout.isatty() and not session.as_json


def _active(system: System, service: Service) -> tuple[Run, ...]:
    return tuple(run for run in system.store.journal.active() if run.plan.service == service.name)


def _must_be(runs: tuple[Run, ...], wanted: str | None) -> None:
    for run in runs:
        if wanted is not None and not is_named(run.plan, wanted):
            raise Refused(
                f"run {run.id} is under way by another plan, {plan_hash(run.plan)[:SHORT]}; "
                f"watch it: ha-tasks run {run.id}"
            )


def _recovered(
    session: Session,
    system: System,
    service: Service,
    runs: tuple[Run, ...],
    wanted: str | None,
    *,
    within_s: float,
    local: bool,
) -> tuple[Json, str | None]:
    """Takes the runs to their end in this process, or watches the workers do it. (result, refusal)"""
    if not runs:
        return _nothing_started(system, service, system.detection.judge([service]))
    if local:
        result = system.detect_and_recover(service.name, judge_within_s=0.0, within_s=within_s, only=wanted)
        return result.to_json(), None
    ended = [watched(session, system.store.journal, system.clock, run, within_s) for run in runs]
    good = all(run.state is RunState.SUCCEEDED for run in ended)
    content: Json = {
        "success": good,
        "message": "; ".join(f"run {r.id} {r.state}" + (f": {r.error}" if r.error else "") for r in ended),
        "services_recovered": [service.name] if good else [],
        "runs": [brief(run) for run in ended],
    }
    return content, None


def judged(system: System, service: Service) -> tuple[Verdict, ...]:
    """Looks until nothing is in doubt, or for five seconds."""
    ends = system.clock.monotonic() + JUDGE_WITHIN_S
    while True:
        system.detection.look([service])
        verdicts = system.detection.judge([service])
        if not any(v.is_unsettled for v in verdicts) or system.clock.monotonic() >= ends:
            return verdicts
        system.clock.pause(LOOK_EVERY_S)


def _doubts(verdicts: tuple[Verdict, ...]) -> list[str]:
    return [f"{v.target.instance}: {v.evidence}" for v in verdicts if v.is_doubtful]


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
        blocked = incident.state in STUCK and incident.holds_key
        if incident.service == service.name and blocked:
            last = system.store.incidents.timeline(incident.id)[-1]
            return f"I-{incident.id} is {incident.state}: {last.text.removeprefix(f'{incident.state}: ')}"
    return None


def watched(session: Session, journal: Journal, clock: Clock, run: Run, within_s: float) -> Run:
    """The run at its end, each turn told. DeadlineExceeded when it takes longer, or nobody takes it up.

    Ctrl-C ends the watching and nothing else, and says so.
    """
    try:
        return _at_its_end(session, journal, clock, run, within_s)
    except KeyboardInterrupt:
        session.tell(f"no longer watched; run {run.id} goes on: ha-tasks run {run.id}")
        raise


def _at_its_end(session: Session, journal: Journal, clock: Clock, run: Run, within_s: float) -> Run:
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
        if run.fence == 0 and run.approval_until is not None and run.approved_by is None:
            raise Refused(f"run {run.id} waits for a person's yes; give it: ha-tasks approve {run.id}")
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
