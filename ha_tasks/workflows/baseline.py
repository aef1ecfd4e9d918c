"""How fast a service answered before the trouble: the median of its good probes of the last minutes."""

from __future__ import annotations

import statistics
from datetime import timedelta

from ha_tasks.model.platform import Service
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.repositories import Observations

LOOK_BACK = timedelta(minutes=15)


class LatencyBaseline:
    """Reads only."""

    def __init__(self, observations: Observations, clock: Clock) -> None:
        self._observations = observations
        self._clock = clock

    def __call__(self, service: Service) -> float | None:
        """Seconds; None while there are fewer than ten good probes."""
        since = self._clock.now() - LOOK_BACK
        good = [o.rtt_s for o in self._observations.since(since, service.name) if o.ok]
        return statistics.median(good) if len(good) >= 10 else None
