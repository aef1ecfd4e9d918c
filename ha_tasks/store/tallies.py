"""Cumulative counters and histograms: rows that only grow, so that retention never lowers them."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter as Multiset
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any

from sqlalchemy import Connection, Row, select

from ha_tasks.model.measures import Measure
from ha_tasks.names import BUCKETS, Histogram
from ha_tasks.ports.ledger import Series
from ha_tasks.store.rows import add_up
from ha_tasks.store.tables import counter, histogram, histogram_bucket

_ANY = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Bounds in seconds for a histogram that the closed list does not name."""
_LISTED: Mapping[str, tuple[float, ...]] = {str(name): bounds for name, bounds in BUCKETS.items()}


def bounds_of(name: str) -> tuple[float, ...]:
    """Upper bounds of the histogram's buckets in seconds, ascending, without infinity."""
    return _LISTED.get(str(name), _ANY)


class Tally:
    """Counts and observations, added up here first and then written in one go."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], float] = defaultdict(float)
        self._observed: dict[tuple[str, str], list[float]] = defaultdict(list)

    def count(self, name: str, labels: Mapping[str, str], by: float = 1.0) -> None:
        """Adds to a counter."""
        self._counts[str(name), _text(labels)] += by

    def observe(self, name: str, labels: Mapping[str, str], value: float) -> None:
        """Adds an observation to a histogram."""
        self._observed[str(name), _text(labels)].append(value)

    def write(self, connection: Connection) -> None:
        """Adds everything to what the store has. Not idempotent: belongs into the transaction it counts."""
        add_up(connection, counter, [_row(key, value=value) for key, value in self._counts.items()], "value")
        sums = [
            _row(key, observations=len(values), total=sum(values)) for key, values in self._observed.items()
        ]
        add_up(connection, histogram, sums, "observations", "total")
        buckets = [
            _row(key, bound=bound, observations=number)
            for key, values in self._observed.items()
            for bound, number in _filled(key[0], values).items()
        ]
        add_up(connection, histogram_bucket, buckets, "observations")


def tally_of(measures: Iterable[Measure]) -> Tally:
    """They, added up."""
    tally = Tally()
    for measure in measures:
        add = tally.observe if isinstance(measure.name, Histogram) else tally.count
        add(measure.name, measure.labels, measure.value)
    return tally


def _text(labels: Mapping[str, str]) -> str:
    return json.dumps({name: str(value) for name, value in labels.items()}, sort_keys=True)


def _row(key: tuple[str, str], **values: float) -> dict[str, Any]:
    return {"name": key[0], "labels": key[1], **values}


def _filled(name: str, values: list[float]) -> Mapping[float, int]:
    """How many observations fell into each bucket; those beyond the last bound are only in the sum."""
    bounds = bounds_of(name)
    places = (bisect_left(bounds, value) for value in values)
    return Multiset(bounds[place] for place in places if place < len(bounds))


def all_series(connection: Connection) -> tuple[Series, ...]:
    """Every counter, then every histogram, each by name and labels."""
    counters = connection.execute(select(counter).order_by(counter.c.name, counter.c.labels))
    found = [Series(name=row.name, labels=json.loads(row.labels), value=row.value) for row in counters]
    filled: dict[tuple[str, str], dict[float, int]] = defaultdict(dict)
    for row in connection.execute(select(histogram_bucket)):
        filled[row.name, row.labels][row.bound] = row.observations
    histograms = connection.execute(select(histogram).order_by(histogram.c.name, histogram.c.labels))
    return (*found, *(_histogram(row, filled[row.name, row.labels]) for row in histograms))


def _histogram(row: Row[Any], filled: Mapping[float, int]) -> Series:
    """Bounds that an older version had are kept beside today's, so that no count is lost."""
    bounds = sorted({*bounds_of(row.name), *filled})
    counts = accumulate(filled.get(bound, 0) for bound in bounds)
    return Series(
        name=row.name,
        labels=json.loads(row.labels),
        value=float(row.observations),
        buckets=dict(zip(bounds, counts, strict=True)),
        total=row.total,
    )
