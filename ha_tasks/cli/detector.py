"""``ha-tasks detector``: write down what observers saw, and replay it through the failure detector."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from statistics import median
from typing import Any

import click

from ha_tasks.cli.audit import moment_of
from ha_tasks.cli.lines import BAD, DIM, GOOD, HEAD, Line, columns, moment, span
from ha_tasks.cli.plan import service_of
from ha_tasks.cli.session import Session, pass_session, with_home, with_json
from ha_tasks.errors import UsageError
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import ServiceKind
from ha_tasks.model.symptoms import TUNING, Tuning
from ha_tasks.recovery.detector_replay import Alarm, Found, Replay, replayed
from ha_tasks.recovery.failure_detector import DetectorSettings, FailureDetector
from ha_tasks.recovery.probe_recording import Recording, read, written

KNOBS = tuple(each.name for each in fields(Tuning))
NOT_RIGHT = 1
_FORMAT = "a line is one JSON object, as `ha-tasks detector record SERVICE FILE` writes them"


@click.group("detector")
@with_home
@with_json
def command() -> None:
    """Write down what the observers saw of a service, and see what the failure detector makes of it."""


@command.command("record")
@click.argument("service")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--since", default="1h", show_default=True, metavar="TIME", help="An ISO time (UTC), or 30m, 2h ago."
)
@with_home
@with_json
@pass_session
def record(session: Session, service: str, file: Path, since: str) -> None:
    """Write the probes of SERVICE that the store still has into FILE (JSONL), for `replay`.

    How long they are kept is `policies.probe_retention_s`. FILE must not exist yet.
    """
    system = session.system()
    about = service_of(system.platform, service)
    _must_be_judged_alone(about.kind, about.name)
    outcomes = system.store.observations.since(moment_of(since, system.clock.now()), about.name)
    try:
        with file.open("x", encoding="utf-8") as out:
            out.writelines(f"{line}\n" for line in written(about, outcomes))
    except FileExistsError:
        raise UsageError(f"{file} exists already; name another file") from None
    content: Json = {"file": str(file), "service": about.name, "probes": len(outcomes)}
    session.result(content, lambda c: [[f"{c['probes']} probes of {c['service']} are in {c['file']}"]])


@command.command("replay")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE",
    help=f"Another value of a knob: restart_s, {', '.join(KNOBS)}. May be given more than once.",
)
@click.option(
    "--vantages",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="policies.min_vantages: fewer fresh vantages never condemn.",
)
@with_json
@pass_session
def replay(session: Session, file: Path, changes: tuple[str, ...], vantages: int) -> int:
    """Tell the detector the probes of FILE as they came to be known, and list its alarms.

    Where FILE says what was true, they are scored: found, missed, false. Each target is judged for itself;
    neither a store nor an inventory is needed. docs/howto/tune-the-detector.md describes FILE.

    Exit status 1: something was missed, or an alarm was false.
    """
    try:
        with file.open(encoding="utf-8") as text:
            recording = read(text)
    except (UsageError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: {error}; {_FORMAT}") from None
    if not recording.probes:
        raise UsageError(f"{file} holds no probe; make one with: ha-tasks detector record SERVICE FILE")
    tuning, recording = _turned(recording, changes)
    detector = FailureDetector(DetectorSettings(min_vantages=vantages, tuning=tuning))
    content = described(replayed(recording, detector), scored=bool(recording.scored))
    session.result(content, lines)
    score = content["score"]
    return NOT_RIGHT if score and (score["missed"] or score["false"]) else 0


def _must_be_judged_alone(kind: ServiceKind, name: str) -> None:
    if kind is ServiceKind.POSTGRES:
        raise UsageError(f"{name} is a PostgreSQL cluster: its nodes are judged together, by other rules")


def _turned(recording: Recording, changes: tuple[str, ...]) -> tuple[Tuning, Recording]:
    """The knobs as ``--set`` has them. UsageError for one that does not exist, or no number."""
    tuning = TUNING
    for change in changes:
        name, _, text = change.partition("=")
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if name not in (*KNOBS, "restart_s") or not 0 <= value < 1e6 or (name != "restart_s" and not value):
            known = ", ".join(("restart_s", *KNOBS))
            raise UsageError(f"--set {change}: write NAME=NUMBER with one of {known}")
        if name == "restart_s":
            for service in {target.service for target in recording.probes}:
                recording.checks[service] = replace(recording.check(service), restart_s=value)
        else:
            tuning = replace(tuning, **{name: value})
    if not tuning.lossy_share < tuning.failing_share < 1:
        raise UsageError("--set: lossy_share must be less than failing_share, and that less than 1")
    return tuning, recording


def described(what: Replay, *, scored: bool) -> Json:
    """As plain JSON; ``score`` is None where nobody has said what was true."""
    took = [each.took_s for each in what.found if each.took_s is not None]
    score: Json = {
        "downs": [_down(each) for each in what.found],
        "found": len(took),
        "missed": len(what.found) - len(took),
        "false": len(what.false),
        "took_median_s": median(took) if took else None,
        "took_longest_s": max(took, default=None),
    }
    return {
        "probes": what.probes,
        "alarms": [_alarm(each, what, scored=scored) for each in what.alarms],
        "score": score if scored else None,
    }


def _alarm(alarm: Alarm, what: Replay, *, scored: bool) -> Json:
    return {
        "service": alarm.target.service,
        "instance": alarm.target.instance,
        "from": alarm.begin.isoformat(),
        "until": alarm.end and alarm.end.isoformat(),
        "evidence": alarm.evidence,
        "false": alarm in what.false if scored else None,
    }


def _down(found: Found) -> Json:
    return {
        "service": found.down.target.service,
        "instance": found.down.target.instance,
        "from": found.down.begin.isoformat(),
        "until": found.down.end.isoformat(),
        "why": found.down.why,
        "took_s": found.took_s,
        "alarms": found.alarms,
    }


def lines(content: Json) -> Iterator[Line]:
    """The alarms, and the score."""
    yield [(f"{content['probes']} probes, {len(content['alarms'])} alarms", HEAD)]
    if content["alarms"]:
        yield from columns(
            ("instance", "from", "until", "evidence", ""), [_alarm_row(each) for each in content["alarms"]]
        )
    score = content["score"]
    if score is None:
        yield [("nothing in the file says what was true: there is no score", DIM)]
        return
    for down in score["downs"]:
        yield from _down_line(down)
    good = not score["missed"] and not score["false"]
    text = f"found {score['found']}, missed {score['missed']}, false {score['false']}"
    yield [(text, GOOD if good else BAD), _times(score)]


def _alarm_row(alarm: dict[str, Any]) -> list[Any]:
    until = moment(alarm["until"]) if alarm["until"] else "stands"
    false = ("false", BAD) if alarm["false"] else ""
    return [alarm["instance"], moment(alarm["from"]), until, alarm["evidence"], false]


def _down_line(down: dict[str, Any]) -> Iterator[Line]:
    why = f" ({down['why']})" if down["why"] else ""
    about = f"{down['instance']} down at {moment(down['from'])}{why}: "
    if down["took_s"] is None:
        yield [about, ("missed", BAD)]
    else:
        yield [about, f"found after {down['took_s']:.2f} s"]


def _times(score: dict[str, Any]) -> str:
    if score["took_median_s"] is None:
        return ""
    return f"; median {score['took_median_s']:.2f} s, longest {span(score['took_longest_s'])}"
