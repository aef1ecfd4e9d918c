"""The catalogue: one table, whose names, types and labels others rely on."""

from __future__ import annotations

import re

import pytest

from ha_tasks.errors import UsageError
from ha_tasks.monitoring.prometheus import (
    CATALOGUE,
    CustomMetricsRegistry,
    MetricKind,
    PrometheusIntegration,
    metric,
)
from ha_tasks.names import BUCKETS, LABELS, Counter, Histogram

DESIGN = [
    ("system_availability_percentage", MetricKind.GAUGE, ()),
    ("service_health_score", MetricKind.GAUGE, ("service_name",)),
    ("recovery_time_seconds", MetricKind.HISTOGRAM, ("recovery_type",)),
    ("data_integrity_score", MetricKind.GAUGE, ()),
]


@pytest.mark.parametrize(("name", "kind", "labels"), DESIGN)
def test_the_four_metrics_of_the_design_are_there_word_for_word(name, kind, labels):
    assert (metric(name).kind, metric(name).labels) == (kind, labels)


def test_no_name_comes_twice():
    assert len({d.name for d in CATALOGUE}) == len(CATALOGUE)


@pytest.mark.parametrize("definition", CATALOGUE, ids=lambda d: d.name)
def test_each_metric_is_named_and_described_as_prometheus_advises(definition):
    assert re.fullmatch(r"[a-z][a-z0-9_]*", definition.name)
    assert definition.name.endswith("_total") == (definition.kind is MetricKind.COUNTER)
    assert bool(definition.buckets) == (definition.kind is MetricKind.HISTOGRAM)
    assert definition.help.endswith(".")
    assert not {"le", "quantile", "instance", "job"} & set(definition.labels)


def test_whatever_the_ledger_keeps_is_in_the_catalogue_with_its_labels_and_buckets():
    kept = {d.name: (d.kind, d.labels, d.buckets) for d in CATALOGUE if d.name in {*Counter, *Histogram}}

    assert kept == {
        **{str(c): (MetricKind.COUNTER, LABELS[c], ()) for c in Counter},
        **{str(h): (MetricKind.HISTOGRAM, LABELS[h], BUCKETS[h]) for h in Histogram},
    }


@pytest.mark.parametrize("bounds", BUCKETS.values())
def test_buckets_ascend(bounds):
    assert list(bounds) == sorted(set(bounds))


def test_the_targets_are_edges_of_the_recovery_buckets():
    assert {30.0, 300.0} <= set(BUCKETS[Histogram.RECOVERY_TIME])


def test_a_metric_that_is_not_in_the_catalogue_is_refused():
    with pytest.raises(UsageError, match="no metric 'ha_made_up_total'"):
        PrometheusIntegration().register("ha_made_up_total", MetricKind.COUNTER)


@pytest.mark.parametrize(
    ("kind", "labels"),
    [(MetricKind.COUNTER, ("service_name",)), (MetricKind.GAUGE, ()), (MetricKind.GAUGE, ("service",))],
)
def test_a_metric_cannot_be_registered_as_something_else(kind, labels):
    with pytest.raises(UsageError, match="service_health_score is a gauge with labels"):
        PrometheusIntegration().register("service_health_score", kind, labels)


def test_the_registrations_of_the_design_document_answer_the_catalogues_definitions():
    registry = CustomMetricsRegistry()

    registered = [
        registry.register_gauge("system_availability_percentage", "System availability percentage"),
        registry.register_gauge("service_health_score", "Service health score", ["service_name"]),
        registry.register_histogram(
            "recovery_time_seconds", "Time taken for system recovery", ["recovery_type"]
        ),
        registry.register_gauge("data_integrity_score", "Data integrity verification score"),
    ]

    assert registered == [metric(name) for name, _, _ in DESIGN]
    assert set(registered) <= set(PrometheusIntegration().metrics())


def test_a_metric_without_a_sentence_is_refused():
    with pytest.raises(UsageError, match="needs a sentence"):
        CustomMetricsRegistry().register_counter("ha_probes_total", "", ["service_name", "probe"])
