"""What the ledger has counted, as metrics: rows become series of the catalogue, strangers become "other"."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.metrics_core import Metric

from ha_tasks.monitoring.labels import OTHER, LabelRegistry
from ha_tasks.monitoring.prometheus import Distribution, Words, metric
from ha_tasks.names import BUCKETS, LABELS, Counter, Histogram
from ha_tasks.ports.ledger import Series

logger = logging.getLogger(__name__)


class Tallies:
    """Merges rows whose labels are not in the closed lists, so that no series appears twice."""

    def __init__(self, labels: LabelRegistry) -> None:
        self._labels = labels
        self._strangers: set[str] = set()

    def families(self, rows: Iterable[Series]) -> Iterator[Metric]:
        """A family for every counter and histogram of the catalogue that the ledger keeps."""
        by_name: dict[str, list[Series]] = {}
        for row in rows:
            by_name.setdefault(row.name, []).append(row)
        self._tell_strangers(by_name)
        for counter in Counter:
            yield metric(counter).family(self._counted(counter, by_name.get(counter, [])))
        for histogram in Histogram:
            yield metric(histogram).histogram(self._observed(histogram, by_name.get(histogram, [])))

    def _counted(self, name: Counter, rows: Iterable[Series]) -> dict[Words, float]:
        values = dict.fromkeys(self._labels.expected(name), 0.0)
        for row in rows:
            words = self._words(name, row.labels)
            values[words] = values.get(words, 0.0) + row.value
        return values

    def _observed(self, name: Histogram, rows: Iterable[Series]) -> dict[Words, Distribution]:
        bounds = BUCKETS[name]
        nothing = Distribution(at_most=(0.0,) * len(bounds), count=0.0, total=0.0)
        values = dict.fromkeys(self._labels.expected(name), nothing)
        for row in rows:
            words = self._words(name, row.labels)
            values[words] = values.get(words, nothing) + _distribution(row, bounds)
        return values

    def _words(self, name: Counter | Histogram, labels: Mapping[str, str]) -> Words:
        return tuple(self._labels.value(label, labels.get(label, OTHER)) for label in LABELS[name])

    def _tell_strangers(self, names: Iterable[str]) -> None:
        """Says once what is counted and not in the catalogue: a worker of another version, most likely."""
        strangers = set(names) - {*Counter, *Histogram} - self._strangers
        if strangers:
            logger.warning("not exported, since the catalogue lacks it: %s", ", ".join(sorted(strangers)))
            self._strangers |= strangers


def _distribution(row: Series, bounds: Iterable[float]) -> Distribution:
    """The row on these bounds. A row with older bounds counts at each of ours what it is sure of."""
    buckets = row.buckets or {}
    at_most = tuple(max((n for edge, n in buckets.items() if edge <= bound), default=0) for bound in bounds)
    return Distribution(at_most=at_most, count=row.value, total=row.total)
