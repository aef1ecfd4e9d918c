"""Recorded probes as lines of JSON (JSONL), and what a person says was true meanwhile. Pure.

Three kinds of lines, in any order, each for one service::

    {"check": {"service": "web", "interval_s": 0.5, "timeout_s": 0.5, "restart_s": 0.0}}
    {"probe": {"service": "web", "instance": "web1", "vantage": "h1/probe", "kind": "ok", "rtt_s": 0.003,
               "sent_at": "...", "known_at": "..."}}
    {"truth": {"service": "web", "instance": "web1", "from": "...", "until": "...", "why": "kill -9"}}

In the file each is one line. ``kind`` is ok, refused, timeout or error; times are in ISO form with their
offset. ``truth`` says that the instance was down from then until then; with at least one such line, or
``{"truth": {"service": "web"}}`` for a recording in which nothing was down, a replay scores the detector.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ha_tasks.errors import UsageError
from ha_tasks.model.platform import Check, Service
from ha_tasks.model.probe import OutcomeKind, ProbeOutcome, Target

LINES = ("check", "probe", "truth")


@dataclass(frozen=True, slots=True, kw_only=True)
class Down:
    """``target`` was down from ``begin`` until ``end``."""

    target: Target
    begin: datetime
    end: datetime
    why: str = ""


@dataclass(slots=True, kw_only=True)
class Recording:
    """``scored``: the services about which a person has said what was true."""

    checks: dict[str, Check] = field(default_factory=dict)
    probes: dict[Target, list[ProbeOutcome]] = field(default_factory=dict)
    downs: list[Down] = field(default_factory=list)
    scored: set[str] = field(default_factory=set)

    def check(self, service: str) -> Check:
        """How it was probed; as is usual, where the recording does not say."""
        return self.checks.get(service, Check())


def written(service: Service, outcomes: Iterable[ProbeOutcome]) -> Iterator[str]:
    """The lines of one service, without line ends. Details and facts are left out: they may be private."""
    check = service.check
    about = {"service": service.name, "interval_s": check.interval_s, "timeout_s": check.timeout_s}
    yield json.dumps({"check": {**about, "restart_s": check.restart_s}})
    for each in outcomes:
        found = {
            "service": each.target.service,
            "instance": each.target.instance,
            "vantage": each.vantage,
            "sent_at": each.sent_at.isoformat(),
            "known_at": each.known_at.isoformat(),
            "kind": str(each.kind),
            "rtt_s": each.rtt_s,
        }
        yield json.dumps({"probe": found})


def read(lines: Iterable[str]) -> Recording:
    """UsageError names the line that is none, and why."""
    recording = Recording()
    for number, text in enumerate(lines, 1):
        if text.strip():
            try:
                _take(recording, text)
            except (ValueError, KeyError, TypeError) as error:
                raise UsageError(f"line {number}: {_why(error)}") from None
    return recording


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"this is no JSON: {error.msg}"
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _take(recording: Recording, text: str) -> None:
    line = json.loads(text)
    names = list(line) if isinstance(line, dict) else []
    if len(names) != 1 or names[0] not in LINES or not isinstance(line[names[0]], dict):
        raise ValueError('it must be {"check": {...}}, {"probe": {...}} or {"truth": {...}}')
    told = line[names[0]]
    service = _word(told, "service")
    if names[0] == "check":
        recording.checks[service] = Check(
            interval_s=_seconds(told, "interval_s", 0.5),
            timeout_s=_seconds(told, "timeout_s", 0.5),
            restart_s=_seconds(told, "restart_s", 0.0, least=0.0),
        )
    elif names[0] == "probe":
        target = Target(service=service, instance=_word(told, "instance"))
        recording.probes.setdefault(target, []).append(_outcome(told, target))
    else:
        recording.scored.add(service)
        if "instance" in told:
            recording.downs.append(_down(told, service))


def _outcome(told: Mapping[str, object], target: Target) -> ProbeOutcome:
    return ProbeOutcome(
        target=target,
        vantage=_word(told, "vantage"),
        sent_at=_moment(told, "sent_at"),
        known_at=_moment(told, "known_at"),
        kind=OutcomeKind(_word(told, "kind")),
        rtt_s=_seconds(told, "rtt_s", 0.0, least=0.0),
    )


def _down(told: Mapping[str, object], service: str) -> Down:
    found = Down(
        target=Target(service=service, instance=_word(told, "instance")),
        begin=_moment(told, "from"),
        end=_moment(told, "until"),
        why=str(told.get("why", "")),
    )
    if found.end <= found.begin:
        raise ValueError("until must be later than from")
    return found


def _word(told: Mapping[str, object], name: str) -> str:
    found = told[name]
    if not isinstance(found, str) or not found:
        raise ValueError(f"{name} must be a word")
    return found


def _seconds(told: Mapping[str, object], name: str, default: float, *, least: float = 0.001) -> float:
    found = told.get(name, default)
    if isinstance(found, bool) or not isinstance(found, int | float) or not least <= found <= 86400:
        raise ValueError(f"{name} must be seconds, from {least:g} to a day")
    return float(found)


def _moment(told: Mapping[str, object], name: str) -> datetime:
    found = datetime.fromisoformat(_word(told, name))
    if found.tzinfo is None:
        raise ValueError(f"{name} must name its offset from UTC, as 2026-11-24T03:00:00+00:00 does")
    return found.astimezone(UTC)
