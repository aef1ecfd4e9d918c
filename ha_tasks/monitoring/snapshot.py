"""A scrape that serves everybody who asks within a second: two Prometheus do not cost two readings."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock

from prometheus_client.metrics_core import Metric

from ha_tasks.errors import DeadlineExceeded
from ha_tasks.monitoring.metrics_collector import MetricsCollector
from ha_tasks.ports.clock import Clock


class Snapshot:
    """Thread-safe. Those who come while it is being read wait for it, ``wait_s`` at most, and share it."""

    def __init__(
        self, collector: MetricsCollector, clock: Clock, max_age_s: float = 1.0, wait_s: float = 3.0
    ) -> None:
        self._collector = collector
        self._clock = clock
        self._max_age_s = max_age_s
        self._wait_s = wait_s
        self._lock = Lock()
        self._families: list[Metric] = []
        self._read_at: float | None = None

    def describe(self) -> Iterator[Metric]:
        """See MetricsCollector."""
        return self._collector.describe()

    def collect(self) -> Iterator[Metric]:
        """Every family, at most ``max_age_s`` old.

        Raises DeadlineExceeded while another's reading hangs: what is old is not served instead.
        """
        if not self._lock.acquire(timeout=self._wait_s):
            raise DeadlineExceeded(f"a source has not answered another's scrape for {self._wait_s:g} s")
        try:
            now = self._clock.monotonic()
            if self._read_at is None or now - self._read_at >= self._max_age_s:
                self._families = list(self._collector.collect())
                self._read_at = now
            return iter(self._families)
        finally:
            self._lock.release()

    def down(self) -> tuple[str, ...]:
        """Parts that could not read their source. Raises DeadlineExceeded as ``collect`` does."""
        return tuple(
            sample.labels["collector"]
            for family in self.collect()
            if family.name == "ha_collector_up"
            for sample in family.samples
            if not sample.value
        )
