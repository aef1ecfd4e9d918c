"""``ha-tasks status --health``: every check of the system's health, and what to do about what is ill."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ha_tasks.cli.lines import BAD, DIM, GOOD, HEAD, WARN, Line, Part, columns, moment
from ha_tasks.model.health import HEALTHY_SCORE
from ha_tasks.model.plain import Json

if TYPE_CHECKING:
    from ha_tasks.bootstrap import System

UNWELL = 1
AREAS: Mapping[str, str] = {
    "base_health": "own checks",
    "service_health": "services",
    "infrastructure_health": "machines",
    "database_health": "databases",
    "external_dependencies": "external",
}


def asked_now(system: System) -> Json:
    """SystemHealthStatus as JSON; takes as long as the slowest check, 5 s at most."""
    from ha_tasks.bootstrap.health import monitor_of

    return monitor_of(system)().to_json()


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
