"""The health of the whole system as the scheduled look saw it last; absent once that is three rounds old."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from prometheus_client.metrics_core import Metric

from ha_tasks.model.system_health import Area
from ha_tasks.monitoring.prometheus import Words, metric
from ha_tasks.monitoring.sources import Sources

FRESH = timedelta(seconds=45)
KEYS = {
    Area.BASE: "base_health",
    Area.SERVICES: "service_health",
    Area.INFRASTRUCTURE: "infrastructure_health",
    Area.DATABASES: "database_health",
    Area.EXTERNAL: "external_dependencies",
}
"""Of SystemHealthStatus."""


def system_health(sources: Sources, now: datetime) -> Iterator[Metric]:
    """The part ``health``. Raises StoreUnreachable."""
    latest = sources.health.latest()
    seen = latest[1] if latest is not None and now - latest[0] <= FRESH else None
    healthy: dict[Words, float] = {} if seen is None else {(): float(seen["is_healthy"])}
    scores = {} if seen is None else {(str(area),): seen[key]["score"] for area, key in KEYS.items()}
    yield metric("ha_system_healthy").family(healthy)
    yield metric("ha_area_health_score").family({w: s for w, s in scores.items() if s is not None})
