"""What is usual for a target: how fast it answered while it was well, in the last minutes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from statistics import median

from ha_tasks.model.probe import Target
from ha_tasks.model.verdict import Verdict, VerdictState

EVERY = timedelta(seconds=10)
SAMPLES = 60
"""Ten minutes of them: a slow-down that goes on for longer is what is usual then."""
LEAST = 3
STALE = timedelta(minutes=30)
"""What was usual so long ago is not taken for what is usual now."""


class UsualLatency:
    """In memory, as each observer has learned it. A new one lets the outcomes themselves say it."""

    def __init__(self) -> None:
        self._samples: dict[Target, deque[tuple[datetime, float]]] = {}

    def learn(self, verdicts: Iterable[Verdict], now: datetime) -> None:
        """Takes a sample of each target that is well; of one that is slow nothing is learned."""
        for verdict in verdicts:
            if verdict.state is not VerdictState.HEALTHY or verdict.latency_s is None:
                continue
            mine = self._samples.setdefault(verdict.target, deque(maxlen=SAMPLES))
            if not mine or now - mine[-1][0] >= EVERY:
                mine.append((now, verdict.latency_s))

    def known(self, now: datetime) -> Mapping[Target, float]:
        """Seconds, of those that were well often enough, and lately."""
        return {
            target: median(latency_s for _, latency_s in samples)
            for target, samples in self._samples.items()
            if len(samples) >= LEAST and now - samples[-1][0] <= STALE
        }
