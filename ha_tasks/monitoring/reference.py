"""The reference page of the metrics, made from the catalogue: ``python -m ha_tasks.monitoring.reference``."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from ha_tasks.monitoring.prometheus import CATALOGUE, MetricDefinition, Part

_HEAD = """\
# Metrics

Made from `ha_tasks/monitoring/prometheus.py` by `python -m ha_tasks.monitoring.reference`; a test says when
this page is stale.

`python -m workers.metrics_sidecar` serves them at `/metrics` (Prometheus text or OpenMetrics, as the client
asks). Everything is read out of the state store and the broker at scrape time, so neither a restarted
sidecar nor a restarted worker loses a count, and two sidecars show the same numbers. A scrape serves
everybody who asks within a second.

- **What is not known is absent.** A part whose source does not answer exports nothing but
  `ha_collector_up{collector="..."} 0`. There is no default and no last value.
- **Unknown time is not available time** in `system_availability_percentage`: a service that nobody has looked
  at for three probe intervals (10 s at least) is unknown from the last look on.
- **Counts begin at 0**, not with their first event, wherever the label values are known beforehand: an
  alert on `increase()` sees the first event too.
- **Label values come from closed lists** (the inventory's names and the package's own); anything else is
  `other`. Only `worker` and `schedule` are open: the newest 100 and 60.
- `ha_service_seconds_total` runs at least 20 s behind, since states are back-dated to the first failed probe
  and a counter must not fall.

| metric | type | labels | part | meaning |
| --- | --- | --- | --- | --- |
"""

_PARTS = {
    Part.LEDGER: "cumulative counters in the store",
    Part.SERVICES: "availability intervals and scores in the store",
    Part.INTEGRITY: "latest results of integrity checks in the store",
    Part.INCIDENTS: "incidents in the store",
    Part.RUNS: "runs in the journal",
    Part.AUTOMATION: "switches and states of clusters in the store",
    Part.EVENTS: "cursors of destinations and the audit chain in the store",
    Part.REPLICATION: "facts of the latest probes; the latest scheduled check, 30 s old at most",
    Part.HEALTH: "the latest scheduled look at the whole system, 45 s old at most",
    Part.WORKERS: "heartbeats of processes and successes of schedule entries in the store",
    Part.BROKER: "the broker, within a second; no worker is asked",
}


def page() -> str:
    """The whole page, in Markdown."""
    lines = [*_rows(), "", "## Buckets", "", *_buckets(), "", "## Parts", "", *_sources(), ""]
    return _HEAD + "\n".join(lines)


def _rows() -> Iterator[str]:
    for definition in CATALOGUE:
        labels = ", ".join(f"`{label}`" for label in definition.labels) or "-"
        part = definition.part or "-"
        yield f"| `{definition.name}` | {definition.kind} | {labels} | {part} | {definition.help} |"


def _buckets() -> Iterator[str]:
    yield "Upper bounds in seconds; `+Inf` comes after them."
    yield ""
    yield from (f"- `{d.name}`: {_bounds(d)}" for d in CATALOGUE if d.buckets)


def _bounds(definition: MetricDefinition) -> str:
    return ", ".join(f"{bound:g}" for bound in definition.buckets)


def _sources() -> Iterator[str]:
    yield "Values of the label `collector`, and where each reads."
    yield ""
    yield from (f"- `{part}`: {_PARTS[part]}" for part in Part)


if __name__ == "__main__":
    sys.stdout.write(page())
