"""How far behind each destination of events is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from prometheus_client.metrics_core import Metric

from ha_tasks.monitoring.labels import LabelRegistry
from ha_tasks.monitoring.prometheus import Words, metric
from ha_tasks.monitoring.sources import Sources


def event_lag(sources: Sources, labels: LabelRegistry, now: datetime) -> Iterator[Metric]:
    """The part ``events``; a destination that was never told anything is absent. StoreUnreachable."""
    lags: dict[Words, float] = {}
    for cursor in sources.cursors.all():
        if cursor.name in labels.values("destination"):
            waiting = sources.audit.after(cursor.seq, 1)
            lags[cursor.name,] = (now - waiting[0].at).total_seconds() if waiting else 0.0
    yield metric("ha_event_lag_seconds").family({words: max(0.0, lag) for words, lag in lags.items()})
