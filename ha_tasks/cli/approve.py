"""``ha-tasks approve``: a person's yes or no to a run that waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from ha_tasks.cli.accepting import acceptance_of, with_confirm_off
from ha_tasks.cli.lines import Line, state
from ha_tasks.cli.numbers import BYTES, NUMBER
from ha_tasks.cli.runs import brief
from ha_tasks.cli.session import Session, pass_session, person, with_home, with_json
from ha_tasks.errors import UsageError
from ha_tasks.model.plain import Json
from ha_tasks.model.verdict import VerdictState
from ha_tasks.workflows.approving import Consent

if TYPE_CHECKING:
    from ha_tasks.bootstrap import System
    from ha_tasks.model.run import Run


@click.command("approve")
@click.argument("number", type=NUMBER, metavar="RUN")
@click.option("--reject", is_flag=True, help="Say no: the run ends, and its incident is a person's.")
@click.option(
    "--accept-data-loss",
    "accepted_bytes",
    type=BYTES,
    metavar="BYTES",
    help="So many bytes may be lost; the refusal says how many are at stake.",
)
@with_confirm_off
@click.option("--reason", default="", help="Why; kept in the incident's story and in the audit chain.")
@with_home
@with_json
@pass_session
def command(
    session: Session,
    *,
    number: int,
    reject: bool,
    accepted_bytes: int | None,
    off: tuple[str, ...],
    reason: str,
) -> None:
    """Let RUN begin, which waits for a person; `ha-tasks run RUN` shows its steps.

    The guards are asked again, and the plan is made again: where the situation has changed, nothing
    begins, and the new plan waits in its place. Exit status 3 then, and when a guard refuses.
    """
    if reject and accepted_bytes is not None:
        raise UsageError("--reject and --accept-data-loss contradict each other")
    system = session.system(sending=not reject)
    run = system.approver.waiting(number)
    if reject:
        ended = system.approver.reject(run, person(), reason)
    else:
        accepts = acceptance_of(system.platform.services[run.plan.service], accepted_bytes, off)
        bytes_, names = (None, ()) if accepts is None else (accepts.bytes, accepts.off)
        consent = Consent(by=person(), reason=reason, accepted_bytes=bytes_, off=names)
        ended = _approved(system, run, consent)
    session.result({"run": brief(ended)}, lines)


def _approved(system: System, run: Run, consent: Consent) -> Run:
    service = system.platform.services.get(run.plan.service)
    verdicts = system.detection.judge([service]) if service is not None else ()
    blind = any(v.state is VerdictState.BLIND for v in verdicts)
    return system.approver.approve(run, consent, blind=blind, verdicts=verdicts)


def lines(content: Json) -> Iterator[Line]:
    """What became of it."""
    run = content["run"]
    yield [f"run {run['id']} is ", state(run["state"]), f": {run['error']}" if run["error"] else ""]
    if run["ended_at"] is None:
        yield [f"watch it: ha-tasks run {run['id']}"]
