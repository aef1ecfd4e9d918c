"""``ha-tasks run``: a recovery, its steps, what became of them, every attempt."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import click

from ha_tasks.cli.lines import BAD, DIM, HEAD, Line, columns, moment, span, state
from ha_tasks.cli.numbers import NUMBER
from ha_tasks.cli.progress import in_words
from ha_tasks.cli.session import Records, Session, pass_session, with_home, with_json
from ha_tasks.errors import UsageError
from ha_tasks.model.plain import Json
from ha_tasks.model.plan_hash import plan_hash
from ha_tasks.model.run import TERMINAL, Phase, Run, RunState, Step, StepState
from ha_tasks.ports.repositories import Attempt


@click.command("run")
@click.argument("number", type=NUMBER, required=False, metavar="[N]")
@with_home
@with_json
@pass_session
def command(session: Session, number: int | None) -> None:
    """Run N with its steps and every attempt; without N the latest runs."""
    system = session.system()
    now = system.clock.now()
    if number is None:
        content = {"at": now.isoformat(), "runs": [brief(run) for run in system.store.journal.recent()]}
        session.result(content, list_lines)
    else:
        session.result(one(system.store, number, now), lines)


def brief(run: Run) -> Json:
    """A run without its steps. ``where``: in words, how far it is."""
    return {
        "id": run.id,
        "service": run.plan.service,
        "playbook": run.plan.playbook,
        "incident": run.incident,
        "state": str(run.state),
        "where": where(run),
        "lease_owner": run.lease_owner,
        "created_at": run.created_at.isoformat(),
        "ended_at": run.ended_at and run.ended_at.isoformat(),
        "error": run.error,
    }


def where(run: Run) -> str:
    """How far it is, in words."""
    if run.state in TERMINAL:
        return "ended"
    if run.state is RunState.AWAITING_APPROVAL:
        until = f"{run.approval_until:%H:%M:%S} UTC" if run.approval_until else "somebody comes"
        return f"waits for a person until {until}: ha-tasks approve {run.id}"
    verb = "undoing" if run.phase is Phase.UNDO else "at"
    who = f" by {run.lease_owner}" if run.lease_owner else ", waits for a worker"
    far = in_words(run.current.output) if run.phase is Phase.DO else ""
    place = f"step {run.position} of {len(run.steps)} {run.current.planned.id}"
    return f"{verb} {place}{who}" + (f": {far}" if far else "")


def one(store: Records, number: int, now: datetime) -> Json:
    """A run with its steps and attempts. UsageError when there is none."""
    try:
        run = store.journal.get(number)
    except KeyError:
        raise UsageError(f"there is no run {number}; see: ha-tasks run") from None
    return {
        "at": now.isoformat(),
        "run": {
            **brief(run),
            "version": run.plan.version,
            "sha256": run.plan.sha256,
            "summary": run.plan.summary,
            "plan_hash": plan_hash(run.plan),
            "phase": str(run.phase),
            "mode": run.mode,
            "requested_by": run.requested_by,
            "reason": run.reason,
            "fence": run.fence,
        },
        "steps": [_step(step) for step in run.steps],
        "attempts": [_attempt(attempt) for attempt in store.journal.attempts(number)],
    }


def _step(step: Step) -> Json:
    seconds = (step.ended_at - step.started_at).total_seconds() if step.ended_at and step.started_at else None
    return {
        "no": step.no,
        "id": step.planned.id,
        "action": str(step.action),
        "provider": step.planned.provider,
        "state": str(step.state),
        "attempts": step.attempts,
        "seconds": seconds,
        "started_at": step.started_at and step.started_at.isoformat(),
        "ended_at": step.ended_at and step.ended_at.isoformat(),
        "point_of_no_return": step.planned.point_of_no_return,
        "output": step.output,
        "error": step.error,
    }


def _attempt(attempt: Attempt) -> Json:
    return {
        "step": attempt.step,
        "phase": attempt.phase,
        "fence": attempt.fence,
        "worker": attempt.worker,
        "started_at": attempt.started_at.isoformat(),
        "ended_at": attempt.ended_at and attempt.ended_at.isoformat(),
        "outcome": attempt.outcome,
        "error": attempt.error,
    }


def list_lines(content: Json) -> Iterator[Line]:
    """A line for each run."""
    now = content["at"]
    if not content["runs"]:
        yield ["no run yet"]
    yield from columns(
        ["RUN", "STATE", "SERVICE", "PLAYBOOK", "INCIDENT", "STARTED", "WHERE"],
        [
            [
                (str(r["id"]), HEAD),
                state(r["state"]),
                r["service"],
                r["playbook"],
                "-" if r["incident"] is None else f"I-{r['incident']}",
                moment(r["created_at"], now),
                r["error"] or r["where"],
            ]
            for r in content["runs"]
        ],
    )


def lines(content: Json) -> Iterator[Line]:
    """What it is about and how it stands, then its steps, then attempts that did not go well."""
    run, now = content["run"], content["at"]
    yield [(f"run {run['id']}", HEAD), " ", state(run["state"]), f"  {run['summary']}"]
    about = f"I-{run['incident']}, " if run["incident"] is not None else ""
    began = moment(run["created_at"], now)
    yield [f"{about}{run['mode']}, asked for by {run['requested_by']} at {began} UTC: {run['reason']}"]
    yield [("plan ", DIM), run["plan_hash"][:12]]
    yield [run["where"] if run["ended_at"] is None else f"ended {moment(run['ended_at'], now)} UTC"]
    if run["error"]:
        yield [(run["error"], BAD)]
    yield []
    yield from columns(
        ["STEP", "", "STATE", "ATTEMPTS", "TOOK", "WHAT CAME OF IT"],
        [
            [
                str(s["no"]),
                s["id"],
                state(s["state"]),
                str(s["attempts"]),
                "-" if s["seconds"] is None else span(s["seconds"]),
                _outcome(s),
            ]
            for s in content["steps"]
        ],
    )
    yield from _attempt_lines(content, now)


def _outcome(step: Json) -> str:
    if step["error"]:
        return str(step["error"])
    if step["state"] != StepState.DONE and (far := in_words(step["output"])):
        return far
    mark = "no way back from here" if step["point_of_no_return"] else ""
    said = (f"{key} {_plainly(value)}" for key, value in step["output"].items() if _is_plain(value))
    return ", ".join(said) or mark


def _is_plain(value: object) -> bool:
    return value not in (None, "") and not isinstance(value, list | dict)


def _plainly(value: object) -> object:
    return {True: "yes", False: "no"}.get(value) if isinstance(value, bool) else _rounded(value)


def _rounded(value: object) -> object:
    return f"{value:.2f}" if isinstance(value, float) else value


def _attempt_lines(content: Json, now: str) -> Iterator[Line]:
    ill = [a for a in content["attempts"] if a["outcome"] != "ok"]
    if not ill:
        return
    yield []
    yield from columns(
        ["ATTEMPT AT STEP", "", "FENCE", "BY", "FROM", "OUTCOME"],
        [
            [
                str(a["step"]),
                a["phase"],
                str(a["fence"]),
                (a["worker"], DIM),
                moment(a["started_at"], now),
                f"{a['outcome']}: {a['error']}" if a["error"] else str(a["outcome"] or "not ended"),
            ]
            for a in ill
        ],
    )
