"""The operation ``monitor_system_health``: every area side by side, an existing platform's own word first."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from ha_tasks.failover.checkup import Checkup
from ha_tasks.model.system_health import (
    DOWN,
    WELL,
    Area,
    AreaHealth,
    Examined,
    SystemHealthStatus,
    area_health,
    judged,
    system_status,
)
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.repositories import HealthBook


class BaseHealth(Protocol):
    """An existing platform's own health object."""

    def check_health(self) -> object:
        """A number from 0 to 1 is its score; anything else counts as well, or as down when it is false."""
        ...


class MonitorSystemHealth:
    """Looks only, apart from the canaries, and keeps what it saw last. It takes as long as the slowest check:
    about 5 s at most.
    """

    def __init__(self, checkup: Checkup, book: HealthBook, clock: Clock) -> None:
        self._checkup = checkup
        self._book = book
        self._clock = clock

    def __call__(self, base: BaseHealth | None = None) -> SystemHealthStatus:
        """Raises StoreUnreachable; whatever else is down is an answer."""
        said = [] if base is None else [base_examined(base)]
        looks = (
            self._checkup.check_own,
            self._checkup.check_all_services_health,
            self._checkup.check_infrastructure_health,
            self._checkup.check_database_health,
            self._checkup.check_external_dependencies,
        )
        with ThreadPoolExecutor(max_workers=len(looks), thread_name_prefix="area") as pool:
            areas = {area.area: area for area in pool.map(lambda look: look(), looks)}
        areas[Area.BASE] = _with(areas[Area.BASE], said)
        status = system_status(areas, self._clock.now())
        self._book.put(status.to_json(), status.last_check)
        return status


def base_examined(base: BaseHealth) -> Examined:
    """What the platform says of itself. What it raises is told: it must not hide what we see."""
    remedy = "ask the platform's own health check what it found"
    try:
        answer = base.check_health()
    except Exception as error:  # noqa: BLE001 - code of others may raise anything
        problem = f"the platform's own check raised {type(error).__name__}: {error}"
        return Examined(subject="platform", check="own word", score=DOWN, problem=problem, remedy=remedy)
    if isinstance(answer, int | float) and not isinstance(answer, bool) and 0 <= answer <= 1:
        score = float(answer)
    else:
        score = WELL if answer else DOWN
    return judged(
        "platform", "own word", score, problem=f"the platform's own check says {answer!r}", remedy=remedy
    )


def _with(area: AreaHealth, more: list[Examined]) -> AreaHealth:
    return area_health(area.area, [*more, *area.examined])
