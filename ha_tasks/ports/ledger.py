"""What the sidecar reads. Each verb is one transaction; StoreUnreachable is retryable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One cumulative series. A histogram has ``buckets`` and a ``total``.

    ``value``: the count (of a histogram: how many observations); ``total``: the sum of the observations;
    ``buckets``: upper bound -> how many observations were at most that (cumulative, as Prometheus has it).
    """

    name: str
    labels: Mapping[str, str]
    value: float
    buckets: Mapping[float, int] | None = None
    total: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A process that has reported itself; ``kind``: worker, observer, beat, agent."""

    name: str
    kind: str
    queues: tuple[str, ...]
    pid: int
    heartbeat_at: datetime
    revision: int | None = None
    """Of the inventory that it has loaded; None: it was never applied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A stretch of a service's life; ``until`` None: it stands."""

    service: str
    state: str
    since: datetime
    until: datetime | None


class Ledger(Protocol):
    """What the sidecar reads: cumulative counters, availability, integrity, workers, schedule."""

    def count(self, name: str, labels: Mapping[str, str], by: float = 1.0) -> None:
        """Adds to a counter."""
        ...

    def observe(self, name: str, labels: Mapping[str, str], value: float) -> None:
        """Adds an observation (seconds) to a histogram."""
        ...

    def series(self) -> tuple[Series, ...]:
        """Every cumulative series."""
        ...

    def service_state(
        self,
        service: str,
        state: str,
        score: float | None,
        at: datetime,
        *,
        judged_at: datetime | None = None,
    ) -> bool:
        """The state of a service from ``at`` on (back-dated); True when it changed. The score is kept.

        ``judged_at``: when it was judged so; None: at ``at``.
        """
        ...

    def intervals(self, since: datetime) -> tuple[Interval, ...]:
        """Availability intervals that reach into the time since."""
        ...

    def scores(self) -> Mapping[str, tuple[float, datetime]]:
        """Latest known score of each service and when it was judged."""
        ...

    def integrity(self, check: str, target: str, ok: bool, at: datetime, detail: str = "") -> None:
        """The latest result of a data integrity check."""
        ...

    def integrity_results(self) -> tuple[tuple[str, str, bool, datetime], ...]:
        """Latest result per (check, target): (check, target, ok, at)."""
        ...

    def heartbeat(self, worker: Worker) -> None:
        """A process reports itself."""
        ...

    def workers(self, since: datetime) -> tuple[Worker, ...]:
        """Those heard of since then."""
        ...
