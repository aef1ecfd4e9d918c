"""The ledger in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from threading import RLock

from ha_tasks.ports.ledger import Interval, Series, Worker
from ha_tasks.store.tallies import bounds_of
from tests.fakes.locked import one_at_a_time


class FakeLedger:
    """Counters, intervals and heartbeats in dictionaries."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.counters: dict[tuple[str, str], float] = {}
        self.histograms: dict[tuple[str, str], list[float]] = {}
        self.stretches: list[Interval] = []
        self.judged: dict[str, tuple[float, datetime]] = {}
        self.checks: dict[tuple[str, str], tuple[bool, datetime]] = {}
        self.alive: dict[str, Worker] = {}

    @one_at_a_time
    def count(self, name: str, labels: Mapping[str, str], by: float = 1.0) -> None:
        key = str(name), json.dumps(dict(labels), sort_keys=True)
        self.counters[key] = self.counters.get(key, 0.0) + by

    @one_at_a_time
    def observe(self, name: str, labels: Mapping[str, str], value: float) -> None:
        key = str(name), json.dumps(dict(labels), sort_keys=True)
        self.histograms.setdefault(key, []).append(value)

    @one_at_a_time
    def series(self) -> tuple[Series, ...]:
        counters = (
            Series(name=name, labels=json.loads(labels), value=value)
            for (name, labels), value in sorted(self.counters.items())
        )
        histograms = (
            Series(
                name=name,
                labels=json.loads(labels),
                value=float(len(values)),
                buckets={bound: sum(v <= bound for v in values) for bound in bounds_of(name)},
                total=sum(values),
            )
            for (name, labels), values in sorted(self.histograms.items())
        )
        return (*counters, *histograms)

    @one_at_a_time
    def service_state(
        self,
        service: str,
        state: str,
        score: float | None,
        at: datetime,
        *,
        judged_at: datetime | None = None,
    ) -> bool:
        if score is not None:
            self.judged[service] = score, judged_at or at
        own = [i for i in self.stretches if i.service == service]
        if own and own[-1].state == state:
            return False
        self.stretches = [i for i in self.stretches if i.service != service]
        own = [i for i in own if i.since < at]
        if own:
            own[-1] = replace(own[-1], until=at)
        if own and own[-1].state == state:
            own[-1] = replace(own[-1], until=None)
        else:
            own.append(Interval(service=service, state=state, since=at, until=None))
        self.stretches += own
        return True

    @one_at_a_time
    def intervals(self, since: datetime) -> tuple[Interval, ...]:
        reaching = (i for i in self.stretches if i.until is None or i.until > since)
        return tuple(sorted(reaching, key=lambda i: (i.since, i.service)))

    @one_at_a_time
    def scores(self) -> Mapping[str, tuple[float, datetime]]:
        return dict(self.judged)

    @one_at_a_time
    def integrity(self, check: str, target: str, ok: bool, at: datetime, detail: str = "") -> None:
        self.checks[check, target] = ok, at

    @one_at_a_time
    def integrity_results(self) -> tuple[tuple[str, str, bool, datetime], ...]:
        return tuple((check, target, *result) for (check, target), result in sorted(self.checks.items()))

    @one_at_a_time
    def heartbeat(self, worker: Worker) -> None:
        self.alive[worker.name] = worker

    @one_at_a_time
    def workers(self, since: datetime) -> tuple[Worker, ...]:
        return tuple(w for _, w in sorted(self.alive.items()) if w.heartbeat_at >= since)
