"""``ha-tasks incidents``: the latest ones, or one with its story."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

import click

from ha_tasks.cli.advice import advice
from ha_tasks.cli.lines import DIM, HEAD, Line, columns, moment, since, span, state
from ha_tasks.cli.numbers import HOW_MANY
from ha_tasks.cli.runs import where
from ha_tasks.cli.session import Records, Session, pass_session, with_home, with_json
from ha_tasks.errors import UsageError
from ha_tasks.model.incident import Incident
from ha_tasks.model.plain import Json


@click.command("incidents")
@click.argument("number", required=False, metavar="[N]")
@click.option("--limit", default=20, show_default=True, type=HOW_MANY, help="How many of the latest.")
@with_home
@with_json
@pass_session
def command(session: Session, number: str | None, limit: int) -> None:
    """The latest incidents, or incident N (7 or I-7) with its story."""
    system = session.system()
    now = system.clock.now()
    if number is None:
        session.result(latest(system.store, now, limit), list_lines)
    else:
        session.result(one(system.store, numbered(number), now), story_lines)


def numbered(text: str) -> int:
    """``7`` or ``I-7``; UsageError for anything else."""
    found = re.fullmatch(r"(?:I-?)?(\d{1,18})", text, re.IGNORECASE)
    if found is None:
        raise UsageError(f'"{text}" is no incident; write its number: 7 or I-7')
    return int(found.group(1))


def described(incident: Incident) -> Json:
    """An incident as plain JSON; times in ISO form, UTC."""
    return {
        "id": incident.id,
        "service": incident.service,
        "instance": incident.instance,
        "kind": str(incident.kind),
        "state": str(incident.state),
        "severity": incident.severity,
        "summary": incident.summary,
        "fault_at": incident.fault_at.isoformat(),
        "detected_at": incident.detected_at.isoformat(),
        "mitigated_at": incident.mitigated_at and incident.mitigated_at.isoformat(),
        "resolved_at": incident.resolved_at and incident.resolved_at.isoformat(),
        "run": incident.run,
        "parent": incident.parent,
        "lasts": incident.holds_key,
    }


def latest(store: Records, now: datetime, limit: int = 20) -> Json:
    """The latest incidents, newest first."""
    return {"at": now.isoformat(), "incidents": [described(i) for i in store.incidents.recent(limit)]}


def one(store: Records, number: int, now: datetime) -> Json:
    """One incident with its story, oldest line first. UsageError when there is none."""
    try:
        incident = store.incidents.get(number)
    except KeyError:
        raise UsageError(f"there is no incident {number}; see: ha-tasks incidents") from None
    story = store.incidents.timeline(number)
    active = {run.id: run for run in store.journal.active()}
    run = active.get(incident.run or 0)
    return {
        "at": now.isoformat(),
        "incident": described(incident),
        "evidence": dict(incident.evidence),
        "timeline": [{"at": e.at.isoformat(), "actor": e.actor, "text": e.text} for e in story],
        "recovery": None if run is None else where(run),
        "advice": advice(incident, run, story[-1].text if story else ""),
    }


def list_lines(content: Json) -> Iterator[Line]:
    """A line for each."""
    now = content["at"]
    if not content["incidents"]:
        yield ["no incident yet"]
    yield from columns(
        ["", "STATE", "SERVICE", "KIND", "SINCE", "TOOK", "RUN", "WHAT"],
        [
            [
                (f"I-{i['id']}", HEAD),
                state(i["state"]),
                i["service"],
                i["kind"],
                moment(i["fault_at"], now),
                _took(i, now),
                "-" if i["run"] is None else str(i["run"]),
                i["summary"],
            ]
            for i in content["incidents"]
        ],
    )


def _took(incident: Json, now: str) -> str:
    """From the fault to service again; while it lasts, how long already."""
    ended = incident["mitigated_at"] or incident["resolved_at"]
    return since(incident["fault_at"], ended) if ended else f"{since(incident['fault_at'], now)} so far"


def story_lines(content: Json) -> Iterator[Line]:
    """The incident, then what happened, with the seconds since the fault."""
    incident, now = content["incident"], content["at"]
    yield [(f"I-{incident['id']}", HEAD), " ", state(incident["state"]), f"  {incident['summary']}"]
    yield [
        f"{incident['kind']} of {incident['service']}, since {moment(incident['fault_at'], now)} UTC, "
        f"took {_took(incident, now)}"
    ]
    if incident["parent"] is not None:
        yield [f"it waits, or waited, for I-{incident['parent']}: ha-tasks incidents {incident['parent']}"]
    if incident["run"] is not None:
        far = f", {content['recovery']}" if content["recovery"] else ""
        yield [f"recovery: ha-tasks run {incident['run']}{far}"]
    yield []
    yield from columns(
        ["TIME", "T+", "WHO", "WHAT"],
        [
            [
                (moment(e["at"], now), DIM),
                _after(incident["fault_at"], e["at"]),
                (e["actor"], DIM),
                e["text"],
            ]
            for e in content["timeline"]
        ],
    )
    yield []
    yield [("you can: ", DIM), content["advice"]]


def _after(start: str, at: str) -> str:
    return span((datetime.fromisoformat(at) - datetime.fromisoformat(start)).total_seconds())
