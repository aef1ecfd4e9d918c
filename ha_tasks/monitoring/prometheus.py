"""PrometheusIntegration: the catalogue of metrics, one table. Nothing outside it is exported or counted.

Names and labels are a contract with dashboards and alert rules: a metric that is not here does not exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

from ha_tasks.errors import UsageError
from ha_tasks.names import BUCKETS, LABELS, Counter, Histogram

Words: TypeAlias = tuple[str, ...]
"""Label values, in the order of the metric's labels."""

NOTHING: Mapping[Words, float] = MappingProxyType({})


class MetricKind(StrEnum):
    """Prometheus' types, as far as they are used."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


class Part(StrEnum):
    """The parts of the sidecar; each reads its source alone and fails alone. Label ``collector``."""

    LEDGER = "ledger"
    SERVICES = "services"
    INTEGRITY = "integrity"
    INCIDENTS = "incidents"
    RUNS = "runs"
    AUTOMATION = "automation"
    EVENTS = "events"
    REPLICATION = "replication"
    HEALTH = "health"
    WORKERS = "workers"
    BROKER = "broker"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricDefinition:
    """One metric. ``part`` None: the sidecar says it of itself. ``buckets``: upper bounds in seconds."""

    name: str
    kind: MetricKind
    labels: tuple[str, ...]
    part: Part | None
    help: str
    buckets: tuple[float, ...] = ()

    def family(self, values: Mapping[Words, float] = NOTHING) -> Metric:
        """The metric with a sample for each tuple of label values (in the order of ``labels``)."""
        family: GaugeMetricFamily | CounterMetricFamily | HistogramMetricFamily
        match self.kind:
            case MetricKind.GAUGE:
                family = GaugeMetricFamily(self.name, self.help, labels=self.labels)
            case MetricKind.COUNTER:
                family = CounterMetricFamily(self.name, self.help, labels=self.labels)
            case MetricKind.HISTOGRAM:
                return self.histogram({})
        for words, value in values.items():
            family.add_metric(words, value)
        return family

    def histogram(self, values: Mapping[Words, Distribution]) -> HistogramMetricFamily:
        """The histogram with one distribution for each tuple of label values."""
        family = HistogramMetricFamily(self.name, self.help, labels=self.labels)
        for words, seen in values.items():
            edges = [*map(floatToGoString, self.buckets), "+Inf"]
            family.add_metric(words, list(zip(edges, [*seen.at_most, seen.count], strict=True)), seen.total)
        return family


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """``at_most``: observations up to each bound of the metric, cumulative; ``total``: their sum."""

    at_most: tuple[float, ...]
    count: float
    total: float

    def __add__(self, other: Distribution) -> Distribution:
        return Distribution(
            at_most=tuple(a + b for a, b in zip(self.at_most, other.at_most, strict=True)),
            count=self.count + other.count,
            total=self.total + other.total,
        )


def _gauge(name: str, labels: tuple[str, ...], part: Part | None, text: str) -> MetricDefinition:
    return MetricDefinition(name=name, kind=MetricKind.GAUGE, labels=labels, part=part, help=text)


def _counter(name: Counter, text: str) -> MetricDefinition:
    return MetricDefinition(
        name=name.value, kind=MetricKind.COUNTER, labels=LABELS[name], part=Part.LEDGER, help=text
    )


def _histogram(name: Histogram, text: str) -> MetricDefinition:
    return MetricDefinition(
        name=name.value,
        kind=MetricKind.HISTOGRAM,
        labels=LABELS[name],
        part=Part.LEDGER,
        help=text,
        buckets=BUCKETS[name],
    )


CATALOGUE: tuple[MetricDefinition, ...] = (
    # the four of the design
    _gauge(
        "system_availability_percentage",
        (),
        Part.SERVICES,
        "Availability of the protected system in percent over the last 24 hours, weighted by service "
        "criticality; unknown time counts as not available.",
    ),
    _gauge(
        "service_health_score",
        ("service_name",),
        Part.SERVICES,
        "Health of a service from 0 (down) to 1 (healthy), from the latest probes.",
    ),
    _histogram(Histogram.RECOVERY_TIME, "Time from the first failed probe to verified recovery in seconds."),
    _gauge(
        "data_integrity_score",
        (),
        Part.INTEGRITY,
        "Share of data integrity checks that passed in their latest run, from 0 to 1, weighted by what "
        "they cover.",
    ),
    # services and probes
    MetricDefinition(
        name="ha_service_seconds_total",
        kind=MetricKind.COUNTER,
        labels=("service_name", "state"),
        part=Part.SERVICES,
        help="Wall time a service spent per state.",
    ),
    _gauge(
        "ha_service_up",
        ("service_name",),
        Part.SERVICES,
        "1 if the service is serving by its latest probes, 0 if down; absent if unknown.",
    ),
    _counter(Counter.PROBES, "Probes that were executed."),
    _counter(Counter.PROBE_FAILURES, "Probes that failed, by class of failure."),
    _histogram(Histogram.PROBE_DURATION, "Duration of probes."),
    # incidents
    _counter(Counter.INCIDENTS, "Incidents opened."),
    _gauge(
        "ha_incidents_open",
        ("severity",),
        Part.INCIDENTS,
        "Incidents that are open, or escalated and not yet acknowledged.",
    ),
    _histogram(Histogram.DETECTION_DELAY, "Time from the first bad probe to the opened incident."),
    # recoveries
    _counter(Counter.RECOVERIES, "Recoveries that were started."),
    _counter(Counter.RECOVERY_FAILURES, "Recoveries that ended without a verified result."),
    _gauge("ha_recoveries_running", ("recovery_type",), Part.RUNS, "Recoveries in progress."),
    _gauge(
        "ha_recovery_oldest_start_timestamp_seconds",
        ("recovery_type",),
        Part.RUNS,
        "Start of the oldest recovery in progress.",
    ),
    _gauge(
        "ha_approvals_waiting", ("recovery_type",), Part.RUNS, "Recoveries that wait for a person's approval."
    ),
    _histogram(Histogram.STEP_DURATION, "Duration of one step of a recovery workflow."),
    _counter(Counter.STEP_FAILURES, "Steps of recovery workflows that failed."),
    _counter(Counter.ROLLBACKS, "Rollbacks that were started."),
    _counter(Counter.ROLLBACK_FAILURES, "Rollbacks that failed."),
    _counter(Counter.FAILOVERS, "Failovers by outcome: promoted, aborted, failed."),
    _counter(Counter.BLOCKED, "Recoveries that a guard refused."),
    _counter(Counter.SYNC_SET_EDITED, "Synchronous sets that were edited by hand and put back."),
    _counter(Counter.BALANCER_DRIFT, "Differences from the wanted state of a balancer that were mended."),
    _gauge(
        "ha_store_trusted",
        (),
        Part.AUTOMATION,
        "0 while nothing acts by the state store, since others remember more than it does.",
    ),
    _gauge(
        "ha_automation_disabled",
        ("scope", "mode"),
        Part.AUTOMATION,
        "1 if nothing is recovered automatically in the scope (a service or everything): off or observe by a "
        "switch, halted a paused or blocked cluster.",
    ),
    _gauge(
        "ha_automation_disabled_since_timestamp_seconds",
        ("scope", "mode"),
        Part.AUTOMATION,
        "When the switch was engaged; absent while it is not.",
    ),
    # other services
    _counter(Counter.REQUESTS, "Requests of other services for a recovery, by how they were answered."),
    _counter(Counter.EVENTS_DELIVERED, "Events that a destination (a webhook, the exchange) has taken."),
    _counter(Counter.EVENT_FAILURES, "Attempts to tell a destination that failed."),
    _counter(Counter.EVENTS_GIVEN_UP, "Events that a destination did not take within a day."),
    _gauge(
        "ha_event_lag_seconds",
        ("destination",),
        Part.EVENTS,
        "Age of the oldest event that a destination has not been told; 0 if it knows all.",
    ),
    # PostgreSQL replication
    _gauge(
        "ha_replication_lag_seconds",
        ("cluster", "node"),
        Part.REPLICATION,
        "Lag of a standby in seconds; resolution is a probe interval.",
    ),
    _gauge(
        "ha_replication_lag_bytes", ("cluster", "node"), Part.REPLICATION, "WAL that a standby does not have."
    ),
    _gauge(
        "ha_replication_primaries",
        ("cluster",),
        Part.REPLICATION,
        "Nodes that believe they are primary; anything but 1 is an emergency.",
    ),
    _gauge(
        "ha_replication_standbys_ready",
        ("cluster",),
        Part.REPLICATION,
        "Standbys that could take over without data loss.",
    ),
    _gauge("ha_replication_timeline", ("cluster", "node"), Part.REPLICATION, "Timeline of a node."),
    _gauge("ha_cluster_state", ("cluster", "state"), Part.REPLICATION, "1 for a cluster's recorded state."),
    _gauge(
        "ha_replication_finding",
        ("cluster", "finding"),
        Part.REPLICATION,
        "1 while the latest look has found it.",
    ),
    _gauge("ha_replication_missing", ("cluster",), Part.REPLICATION, "Standbys that do not stream."),
    _gauge(
        "ha_replication_receiver_silence_seconds",
        ("cluster", "node"),
        Part.REPLICATION,
        "Since a standby last heard from its upstream.",
    ),
    _gauge(
        "ha_replication_slot_held_bytes", ("cluster", "node"), Part.REPLICATION, "WAL for slots nobody reads."
    ),
    _gauge("ha_replication_risk_known", ("cluster",), Part.REPLICATION, "0: what may be lost is not known."),
    _gauge("ha_replication_risk_bytes", ("cluster",), Part.REPLICATION, "WAL a failover now would lose."),
    _gauge("ha_replication_risk_seconds", ("cluster",), Part.REPLICATION, "The same as time."),
    _gauge("ha_service_rpo_seconds", ("service_name",), Part.REPLICATION, "The objective of the inventory."),
    # the system as a whole
    _gauge("ha_system_healthy", (), Part.HEALTH, "1 if every check is known and scores 0.8 or more, else 0."),
    _gauge("ha_area_health_score", ("area",), Part.HEALTH, "Worst score of its checks; absent: unknown."),
    # Celery
    _gauge(
        "ha_celery_queue_length",
        ("queue",),
        Part.BROKER,
        "Messages waiting in a queue, all priorities; ha.dead: put aside.",
    ),
    _gauge(
        "ha_celery_queue_unacked",
        ("queue",),
        Part.BROKER,
        "Messages delivered to workers and not acknowledged.",
    ),
    _gauge(
        "ha_celery_queue_oldest_age_seconds",
        ("queue",),
        Part.BROKER,
        "Age of the oldest waiting message; 0 if nothing waits, absent if the message bears no stamp.",
    ),
    _counter(
        Counter.POISON,
        "Messages that were put aside in ha.dead since no worker can take them, by reason.",
    ),
    _gauge("ha_celery_workers", ("queue",), Part.WORKERS, "Live workers that consume a queue."),
    _gauge(
        "ha_celery_worker_heartbeat_timestamp_seconds",
        ("worker",),
        Part.WORKERS,
        "Latest heartbeat of a worker.",
    ),
    _gauge(
        "ha_beat_last_tick_timestamp_seconds",
        (),
        Part.WORKERS,
        "Latest tick that the beat who leads has claimed or sent.",
    ),
    _gauge(
        "ha_schedule_last_success_timestamp_seconds",
        ("schedule",),
        Part.WORKERS,
        "Latest successful run of a schedule entry.",
    ),
    _counter(
        Counter.SCHEDULE_MISSED,
        "Ticks of a schedule entry that passed without a message of their own: made up by one, or dropped.",
    ),
    # the sidecar itself
    _gauge(
        "ha_collector_up",
        ("collector",),
        None,
        "1 if the part of the sidecar could read its source in this scrape.",
    ),
    _gauge(
        "ha_store_up",
        (),
        None,
        "1 if the state store answered in this scrape; while it is 0, nothing is recovered automatically.",
    ),
    _gauge("ha_collector_duration_seconds", ("collector",), None, "Time the part took in this scrape."),
    _gauge("ha_build_info", ("version", "python", "celery"), None, "Build of the sidecar."),
)

_BY_NAME = {definition.name: definition for definition in CATALOGUE}


def metric(name: str) -> MetricDefinition:
    """The metric of that name. Raises UsageError when the catalogue does not have it."""
    try:
        return _BY_NAME[name]
    except KeyError:
        raise UsageError(f"no metric {name!r} in the catalogue; see docs/reference/metrics.md") from None


class PrometheusIntegration:
    """Offers the catalogue. Metrics are declared, never invented: all that can be registered is in it."""

    def metrics(self) -> tuple[MetricDefinition, ...]:
        """Every metric, in the order of the reference."""
        return CATALOGUE

    def register(self, name: str, kind: MetricKind, labels: Iterable[str] = ()) -> MetricDefinition:
        """The catalogue's own definition. Idempotent; nothing is stored.

        Raises UsageError when the metric is unknown, or known as another type or with other labels.
        """
        known, wanted = metric(name), tuple(labels)
        if (known.kind, known.labels) != (kind, wanted):
            raise UsageError(
                f"{name} is a {known.kind} with labels {list(known.labels)}, "
                f"not a {kind} with labels {list(wanted)}"
            )
        return known


class CustomMetricsRegistry:
    """The design document's registry, over the catalogue: what it answers is the catalogue's definition.

    ``documentation`` is accepted for its callers; the catalogue's text is what is exported. Each verb
    raises UsageError for what the catalogue does not have.
    """

    def __init__(self, integration: PrometheusIntegration | None = None) -> None:
        self._integration = integration or PrometheusIntegration()

    def register_gauge(self, name: str, documentation: str, labels: Iterable[str] = ()) -> MetricDefinition:
        """A gauge of the catalogue."""
        return self._register(name, MetricKind.GAUGE, documentation, labels)

    def register_counter(self, name: str, documentation: str, labels: Iterable[str] = ()) -> MetricDefinition:
        """A counter of the catalogue."""
        return self._register(name, MetricKind.COUNTER, documentation, labels)

    def register_histogram(
        self, name: str, documentation: str, labels: Iterable[str] = ()
    ) -> MetricDefinition:
        """A histogram of the catalogue."""
        return self._register(name, MetricKind.HISTOGRAM, documentation, labels)

    def _register(
        self, name: str, kind: MetricKind, documentation: str, labels: Iterable[str]
    ) -> MetricDefinition:
        if not documentation:
            raise UsageError(f"{name} needs a sentence that says what it measures")
        return self._integration.register(name, kind, labels)
