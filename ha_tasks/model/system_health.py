"""Health of the whole system: what each check came to, one score per area, one over all. Pure.

The rule is that of model/health.py: a score is the worst of its parts, so that one bad part cannot hide
behind good ones; what is not known has no score. A system of which a part is not known is not called healthy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from ha_tasks.model.health import HEALTHY_SCORE
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Limits

DOWN, IMPAIRED, CAUTION, WELL = 0.0, 0.5, HEALTHY_SCORE, 1.0
"""It does not do its work; it does, and another failure now would hurt; it does, and wants a look."""


class Area(StrEnum):
    """What a check is about. BASE: the platform's own word, and one's own checks."""

    BASE = "base"
    SERVICES = "services"
    INFRASTRUCTURE = "infrastructure"
    DATABASES = "databases"
    EXTERNAL = "external"


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What one check of one subject came to. ``score`` from 0 to 1; None: it could not be told.

    ``problem`` and ``remedy`` (what to do about it) are empty while it is well.
    """

    subject: str
    check: str
    score: float | None = WELL
    problem: str = ""
    remedy: str = ""
    facts: Json = field(default_factory=dict)

    @property
    def well(self) -> bool:
        """True when nothing is to be done."""
        return self.score == WELL

    def to_json(self) -> Json:
        """As plain JSON."""
        return {
            "subject": self.subject,
            "check": self.check,
            "score": self.score,
            "problem": self.problem,
            "remedy": self.remedy,
            "facts": dict(self.facts),
        }


def judged(
    subject: str, check: str, score: float, *, problem: str, remedy: str, facts: Json | None = None
) -> Examined:
    """What was measured, with ``problem`` and ``remedy`` where the score says that they are so."""
    ill = score < WELL
    return Examined(
        subject=subject,
        check=check,
        score=score,
        problem=problem if ill else "",
        remedy=remedy if ill else "",
        facts=facts or {},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AreaHealth:
    """The checks of one area, the worst first; an area in which there is nothing to check has none."""

    area: Area
    examined: tuple[Examined, ...] = ()

    @property
    def score(self) -> float | None:
        """The worst known score; None when none is known."""
        return worst(each.score for each in self.examined)

    @property
    def known(self) -> bool:
        """True when every check could tell."""
        return all(each.score is not None for each in self.examined)

    def to_json(self) -> Json:
        """As plain JSON."""
        return {"score": self.score, "checks": [each.to_json() for each in self.examined]}


def area_health(area: Area, examined: Iterable[Examined]) -> AreaHealth:
    """The worst first; what is not known stands before what is well."""
    order = sorted(examined, key=lambda e: (CAUTION if e.score is None else e.score, e.subject, e.check))
    return AreaHealth(area=area, examined=tuple(order))


def worst(scores: Iterable[float | None]) -> float | None:
    """The lowest that is known; None when none is."""
    return min((score for score in scores if score is not None), default=None)


def is_healthy(areas: Sequence[AreaHealth]) -> bool:
    """Known, and at least HEALTHY_SCORE: not to know is not to be well."""
    score = worst(area.score for area in areas)
    return score is not None and score >= HEALTHY_SCORE and all(area.known for area in areas)


def minded(examined: Examined, weight: float) -> Examined:
    """As it counts by its weight (a tier's): what is less than ``normal`` is shown, and makes nobody ill."""
    if weight >= 1.0 or examined.score is None:
        return examined
    return replace(examined, score=max(examined.score, CAUTION))


def use_score(used: float, limit: float) -> float:
    """Of a share that must not reach 1 (memory, a disk): well up to the limit, then CAUTION down to 0."""
    if used <= limit:
        return WELL
    return max(DOWN, CAUTION * (1.0 - used) / (1.0 - limit)) if limit < 1.0 else DOWN


def pressure_score(found: float, limit: float) -> float:
    """Of what slows down and has no end (a run queue): well up to the limit, CAUTION up to twice the limit,
    then less by their quotient.
    """
    return WELL if found <= limit else CAUTION * min(1.0, 2.0 * limit / found)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReading:
    """What a machine says of itself. ``load``: runnable tasks per core, averaged over a minute; the others
    are shares in use, 0 to 1; ``disks``: mount point -> the worse of its shares of bytes and of inodes;
    ``descriptors_of``: whose share is the highest.
    """

    load: float
    memory: float
    descriptors: float
    disks: Mapping[str, float]
    descriptors_of: str = "the machine"

    def to_json(self) -> Json:
        """As plain JSON."""
        return {
            "load": self.load,
            "memory": self.memory,
            "descriptors": self.descriptors,
            "descriptors_of": self.descriptors_of,
            "disks": dict(self.disks),
        }

    @staticmethod
    def from_json(told: Json) -> HostReading:
        """The other way round. Raises KeyError, TypeError, ValueError for what is none."""
        return HostReading(
            load=float(told["load"]),
            memory=float(told["memory"]),
            descriptors=float(told["descriptors"]),
            descriptors_of=str(told["descriptors_of"]),
            disks={str(place): float(share) for place, share in told["disks"].items()},
        )


def host_examined(subject: str, reading: HostReading, limits: Limits) -> list[Examined]:
    """One check per resource: CPU, memory, descriptors, and the fullest disk."""
    place, disk = max(reading.disks.items(), key=lambda item: item[1], default=("/", 0.0))
    files = f"of the file descriptors of {reading.descriptors_of} are in use"
    shares = (
        ("memory", reading.memory, limits.memory, "of its memory is in use", _MEMORY),
        ("descriptors", reading.descriptors, limits.descriptors, files, _FILES),
        ("disk", disk, limits.disk, f"of {place} is in use", _DISK.format(place=place)),
    )
    load = judged(
        subject,
        "cpu",
        pressure_score(reading.load, limits.load),
        problem=f"{reading.load:.1f} tasks wait for each core, the limit is {limits.load:g}",
        remedy=_CPU,
        facts={"used": round(reading.load, 2), "limit": limits.load},
    )
    return [
        load,
        *(
            judged(
                subject,
                check,
                use_score(used, limit),
                problem=f"{used:.0%} {what}, the limit is {limit:.0%}",
                remedy=remedy,
                facts={"used": round(used, 4), "limit": limit},
            )
            for check, used, limit, what, remedy in shares
        ),
    ]


_CPU = "see who computes: top -o %CPU; move work away, or give it more cores"
_MEMORY = "see who holds it: ps aux --sort=-rss | head; the kernel kills a process when nothing is left"
_FILES = "see what it holds: ls -l /proc/PID/fd; raise its LimitNOFILE (of the machine: fs.file-max)"
_DISK = "make room: du -xh {place} | sort -h | tail, and df -i for inodes; PostgreSQL stops on a full disk"


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemHealthStatus:
    """Answer of ``monitor_system_health``, with the design document's fields; ``last_check`` is UTC.

    ``overall_score`` None: nothing is known.
    """

    overall_score: float | None
    service_health: AreaHealth
    infrastructure_health: AreaHealth
    database_health: AreaHealth
    external_dependencies: AreaHealth
    last_check: datetime
    is_healthy: bool
    base_health: AreaHealth = field(default_factory=lambda: AreaHealth(area=Area.BASE))

    @property
    def areas(self) -> tuple[AreaHealth, ...]:
        """All five."""
        return (
            self.base_health,
            self.service_health,
            self.infrastructure_health,
            self.database_health,
            self.external_dependencies,
        )

    def to_json(self) -> Json:
        """As plain JSON; ``diagnostics``: what is wrong, with what to do about it, the worst first."""
        ill = [(str(a.area), e) for a in self.areas for e in a.examined if not e.well]
        ill.sort(key=lambda item: CAUTION if item[1].score is None else item[1].score)
        return {
            "overall_score": self.overall_score,
            "is_healthy": self.is_healthy,
            "last_check": self.last_check.isoformat(),
            "base_health": self.base_health.to_json(),
            "service_health": self.service_health.to_json(),
            "infrastructure_health": self.infrastructure_health.to_json(),
            "database_health": self.database_health.to_json(),
            "external_dependencies": self.external_dependencies.to_json(),
            "diagnostics": [
                {
                    "area": area,
                    **{key: value for key, value in each.to_json().items() if key != "facts"},
                }
                for area, each in ill
            ],
        }


def system_status(areas: Mapping[Area, AreaHealth], now: datetime) -> SystemHealthStatus:
    """The areas as one answer; one that is not there has nothing to check."""
    of = {area: areas.get(area, AreaHealth(area=area)) for area in Area}
    every = tuple(of.values())
    return SystemHealthStatus(
        overall_score=worst(area.score for area in every),
        service_health=of[Area.SERVICES],
        infrastructure_health=of[Area.INFRASTRUCTURE],
        database_health=of[Area.DATABASES],
        external_dependencies=of[Area.EXTERNAL],
        base_health=of[Area.BASE],
        last_check=now,
        is_healthy=is_healthy(every),
    )
