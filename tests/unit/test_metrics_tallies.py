"""What the ledger counted, as it is exported."""

from __future__ import annotations

import logging

import pytest

from ha_tasks.model.guards import Guard
from ha_tasks.monitoring.labels import OTHER, LabelRegistry
from ha_tasks.monitoring.tallies import Tallies
from ha_tasks.names import BUCKETS, Counter, Histogram
from ha_tasks.ports.ledger import Series
from tests.unit.builders import platform
from tests.unit.metrics_reading import samples


def read(*rows: Series):
    return samples(Tallies(LabelRegistry(platform())).families(rows))


def counted(name: str, value: float, **labels: str) -> Series:
    return Series(name=name, labels=labels, value=value)


def test_a_counter_keeps_its_labels_and_value():
    found = read(counted("ha_probes_total", 7, service_name="web", probe="http"))

    # by label name: probe, service_name
    assert found["ha_probes_total"]["http", "web"] == 7


def test_strange_label_values_become_other_and_are_added_up():
    found = read(
        counted("ha_incidents_total", 2, service_name="gone", severity="critical"),
        counted("ha_incidents_total", 3, service_name="gone-too", severity="critical"),
    )

    assert found["ha_incidents_total"][OTHER, "critical"] == 5


def test_a_label_that_is_missing_is_other():
    assert read(counted("ha_recoveries_total", 1))["ha_recoveries_total"][OTHER,] == 1


def test_the_count_is_0_before_the_first_event():
    found = read()

    assert found["ha_recovery_failures_total"] == {
        ("failover",): 0,
        ("restart",): 0,
        ("rejoin",): 0,
        ("switchover",): 0,
        ("sync_set",): 0,
        ("rollback",): 0,
    }
    assert found["ha_recovery_blocked_total"] == {(guard.value,): 0 for guard in Guard}
    assert found["ha_failovers_total"]["db", "promoted"] == 0
    assert found["ha_balancer_drift_total"] == {("web",): 0, ("pg_write",): 0, ("pg_read",): 0}
    assert found["ha_probes_total"] == {("http", "web"): 0, ("postgres", "db"): 0}
    assert found["ha_probe_failures_total"]["http", "timeout", "web"] == 0
    assert found["recovery_time_seconds_count"]["failover",] == 0


def test_step_series_come_only_once_they_were_counted():
    assert "ha_recovery_step_failures_total" not in read()


def test_a_histogram_is_cumulative_with_its_sum_and_count():
    bounds = BUCKETS[Histogram.RECOVERY_TIME]
    seen = (0.4, 7.0, 2000.0)
    row = Series(
        name="recovery_time_seconds",
        labels={"recovery_type": "failover"},
        value=3.0,
        total=sum(seen),
        buckets={bound: sum(s <= bound for s in seen) for bound in bounds},
    )

    found = read(row)

    buckets = found["recovery_time_seconds_bucket"]
    assert (buckets["failover", "0.5"], buckets["failover", "5.0"]) == (1, 1)
    assert (buckets["failover", "30.0"], buckets["failover", "+Inf"]) == (2, 3)
    assert found["recovery_time_seconds_count"]["failover",] == 3
    assert found["recovery_time_seconds_sum"]["failover",] == pytest.approx(2007.4)


def test_a_row_with_older_bounds_counts_what_it_is_sure_of():
    row = Series(
        name="recovery_time_seconds",
        labels={"recovery_type": "failover"},
        value=4.0,
        total=40.0,
        buckets={0.7: 1, 20.0: 3},
    )

    buckets = read(row)["recovery_time_seconds_bucket"]

    assert [buckets["failover", le] for le in ("0.5", "1.0", "15.0", "30.0", "+Inf")] == [0, 1, 1, 3, 4]


@pytest.mark.parametrize("name", [*Counter, *Histogram])
def test_every_label_of_the_ledger_has_a_closed_list(name):
    labels = LabelRegistry(platform())

    for words in labels.expected(name):
        assert all(word != OTHER for word in words)
    assert len(list(labels.expected(name))) <= 40


def test_what_the_catalogue_lacks_is_told_once_and_not_exported(caplog):
    tallies = Tallies(LabelRegistry(platform()))
    row = counted("ha_of_tomorrow_total", 1)

    with caplog.at_level(logging.WARNING):
        found = [samples(tallies.families([row])) for _ in range(2)]

    assert all("ha_of_tomorrow_total" not in scrape for scrape in found)
    assert [r.message for r in caplog.records] == [
        "not exported, since the catalogue lacks it: ha_of_tomorrow_total"
    ]
