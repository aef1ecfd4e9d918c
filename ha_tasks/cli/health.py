"""``ha-tasks status --health``: every check of the system's health, and what to do about what is ill."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ha_tasks.cli.lines import BAD, DIM, GOOD, HEAD, WARN, Line, Part, columns, moment
from ha_tasks.model.health import HEALTHY_SCORE
from ha_tasks.model.plain import Json
from ha_tasks.model.system_health import Area

if TYPE_CHECKING:
    from ha_tasks.bootstrap import System
    from ha_tasks.ports.repositories import HealthBook

UNWELL = 1
LATELY = timedelta(seconds=45)
"""Three rounds of the schedule; what was seen earlier says nothing about now."""
AREAS: Mapping[str, str] = {
    "base_health": "own checks",
    "service_health": "services",
    "infrastructure_health": "machines",
    "database_health": "databases",
    "external_dependencies": "external",
}


def asked_now(system: System) -> Json:
    """SystemHealthStatus as JSON; takes as long as the slowest check, 5 s at most."""
    return system.monitor_system_health().to_json()


def looked_at(book: HealthBook, now: datetime) -> Json | None:
    """What the scheduled look saw last, in short; None when nobody has looked lately."""
    latest = book.latest()
    if latest is None or now - latest[0] > LATELY:
        return None
    keys = ("overall_score", "is_healthy", "last_check", "diagnostics")
    return {key: latest[1][key] for key in keys}


def brief_lines(seen: Json | None) -> Iterator[Line]:
    """One line: the verdict, and the first of what is wrong beside the services, which stand above."""
    if seen is None:
        yield [("health: ", WARN), "nobody has looked lately; ask now: ha-tasks status --health"]
        return
    line = ["health: ", *_verdict(seen)]
    ill = [each for each in seen["diagnostics"] if each["area"] != Area.SERVICES]
    if ill:
        more = f" and {len(ill) - 1} more" if ill[1:] else ""
        first = f"{ill[0]['subject']} {ill[0]['check']}: {ill[0]['problem']}"
        line += ["; ", (first, _style(ill[0]["score"])), f"{more}; see: ha-tasks status --health"]
    yield line


def lines(content: Json) -> Iterator[Line]:
    """What is wrong first, with what to do; then the areas, then every check."""
    yield [*_verdict(content), f", asked {moment(content['last_check'])} UTC"]
    yield from _diagnostics(content)
    yield []
    for key, name in AREAS.items():
        area = content[key]
        told: Part = (_score(area["score"]), _style(area["score"])) if area["checks"] else ("-", DIM)
        yield [(f"{name}: ", HEAD), told, "" if area["checks"] else " (nothing to check)"]
    yield []
    yield from columns(
        ["AREA", "SUBJECT", "CHECK", "SCORE", "FACTS"],
        [
            [
                name,
                (check["subject"], HEAD),
                check["check"],
                (_score(check["score"]), _style(check["score"])),
                " ".join(f"{fact}={value}" for fact, value in check["facts"].items()),
            ]
            for key, name in AREAS.items()
            for check in content[key]["checks"]
        ],
    )


def status_of(content: Json) -> int:
    """Exit status: 1 while the system is not healthy."""
    return 0 if content["is_healthy"] else UNWELL


def _verdict(content: Json) -> list[Part]:
    score = content["overall_score"]
    word: Part = (
        ("the system is healthy", GOOD) if content["is_healthy"] else ("the system is not healthy", BAD)
    )
    return [word, f": score {_score(score)}, healthy from {HEALTHY_SCORE:g}"]


def _diagnostics(content: Json) -> Iterator[Line]:
    for ill in content["diagnostics"]:
        yield [
            (f"{_score(ill['score'])} ", _style(ill["score"])),
            (ill["subject"], HEAD),
            f" {ill['check']}: {ill['problem']}",
        ]
        yield [("     do: ", DIM), ill["remedy"]]


def _score(score: float | None) -> str:
    return "?" if score is None else f"{score:.2f}"


def _style(score: float | None) -> str:
    if score is None or score < HEALTHY_SCORE:
        return BAD if score is not None else WARN
    return GOOD if score == 1 else WARN
