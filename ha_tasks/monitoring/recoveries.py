"""Incidents and recoveries as they stand: how many are open, which run, since when."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from ha_tasks.model.run import Run, RunState
from ha_tasks.monitoring.labels import LabelRegistry
from ha_tasks.monitoring.prometheus import Words, metric
from ha_tasks.ports.repositories import Incidents, Journal


def open_incidents(incidents: Incidents, labels: LabelRegistry) -> Iterator[Metric]:
    """The part ``incidents``. Raises StoreUnreachable."""
    count: dict[Words, float] = {(word,): 0.0 for word in labels.values("severity")}
    for incident in incidents.current():
        words = (labels.value("severity", incident.severity),)
        count[words] = count.get(words, 0.0) + 1.0
    yield metric("ha_incidents_open").family(count)


def running_recoveries(journal: Journal, labels: LabelRegistry) -> Iterator[Metric]:
    """The part ``runs``. Raises StoreUnreachable."""
    by_type: dict[Words, list[Run]] = {(word,): [] for word in labels.values("recovery_type")}
    waiting: dict[Words, float] = dict.fromkeys(by_type, 0.0)
    for run in journal.active():
        words = (run.plan.recovery_type.value,)
        if run.state is RunState.AWAITING_APPROVAL:
            waiting[words] += 1.0
        else:
            by_type[words].append(run)
    yield metric("ha_approvals_waiting").family(waiting)
    yield metric("ha_recoveries_running").family({w: float(len(runs)) for w, runs in by_type.items()})
    yield metric("ha_recovery_oldest_start_timestamp_seconds").family(
        {w: min(run.created_at for run in runs).timestamp() for w, runs in by_type.items() if runs}
    )
