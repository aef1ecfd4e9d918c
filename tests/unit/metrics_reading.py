"""What metrics tests read: the families of a scrape as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.metrics_core import Metric

from ha_tasks.monitoring.metrics_collector import MetricsCollector
from ha_tasks.monitoring.sources import Sources
from tests.fakes.clock import FakeClock
from tests.fakes.queues import FakeQueues
from tests.fakes.repositories import FakeStore
from tests.unit.builders import T0, platform

Samples = Mapping[tuple[str, ...], float]


def samples(families: Iterable[Metric]) -> dict[str, dict[tuple[str, ...], float]]:
    """Sample name -> label values (by label name; ``le`` last) -> value. A series that comes twice fails."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in families:
        for sample in family.samples:
            order = sorted(sample.labels, key=lambda name: (name == "le", name))
            words = tuple(sample.labels[name] for name in order)
            series = found.setdefault(sample.name, {})
            assert words not in series, f"{sample.name}{words} comes twice"
            series[words] = sample.value
    return found


class Stage:
    """A collector over fakes, and the fakes."""

    def __init__(self, **changes) -> None:
        self.store = FakeStore()
        self.queues = FakeQueues()
        self.clock = FakeClock(T0)
        self.sources = Sources(
            **{
                "platform": platform(),
                "ledger": self.store.ledger,
                "incidents": self.store.incidents,
                "journal": self.store.journal,
                "clusters": self.store.clusters,
                "pictures": self.store.replication,
                "health": self.store.health,
                "observations": self.store.observations,
                "limits": self.store.limits,
                "identity": self.store.identity,
                "schedule": self.store.schedule,
                "queues": self.queues,
                "clock": self.clock,
                "audit": self.store.audit,
                "cursors": self.store.cursors,
                **changes,
            }
        )
        self.collector = MetricsCollector(self.sources)

    def scrape(self) -> dict[str, dict[tuple[str, ...], float]]:
        return samples(self.collector.collect())

    def judge(self, service: str, state: str, score: float | None = 1.0, *, ago_s: float = 0.0) -> None:
        moment = self.clock.start.timestamp() + self.clock.elapsed_s - ago_s
        self.store.ledger.service_state(service, state, score, type(T0).fromtimestamp(moment, tz=T0.tzinfo))
