"""Label values come from closed lists: the platform's own names and the package's. The rest is "other".

An identifier of a run, a task or a host that somebody made up must never become a time series.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product

from ha_tasks.model.availability import ServiceState
from ha_tasks.model.event import EXCHANGE
from ha_tasks.model.guards import Guard
from ha_tasks.model.platform import Platform, ServiceKind
from ha_tasks.model.probe import OutcomeKind
from ha_tasks.names import (
    ActionName,
    Counter,
    FailoverOutcome,
    Handling,
    Histogram,
    PoisonReason,
    Queue,
    RecoveryType,
    RequestAnswer,
    RollbackTrigger,
    ScheduleEntry,
    host_queue,
)

OTHER = "other"
SEVERITIES = ("critical", "warning", "info")
_FAILURES = tuple(kind for kind in OutcomeKind if kind is not OutcomeKind.OK)


class LabelRegistry:
    """Which values a label may have on this platform."""

    def __init__(self, platform: Platform, own_actions: Iterable[str] = ()) -> None:
        self._platform = platform
        replicating = [s for s in platform.services.values() if s.replicates]
        self._closed: Mapping[str, tuple[str, ...]] = {
            "service_name": tuple(platform.services),
            "cluster": tuple(s.name for s in replicating),
            "node": tuple(i.name for s in replicating for i in s.instances),
            "backend": tuple(_backends(platform)),
            "queue": (*Queue, *(host_queue(host) for host in platform.hosts)),
            "probe": tuple(ServiceKind),
            "reason": (*_FAILURES, *PoisonReason),
            "severity": SEVERITIES,
            "recovery_type": tuple(RecoveryType),
            "step": (*ActionName, *own_actions),
            "trigger": tuple(RollbackTrigger),
            "outcome": tuple(FailoverOutcome),
            "guard": tuple(Guard),
            "answer": tuple(RequestAnswer),
            "destination": (EXCHANGE, *platform.webhooks),
            "detector": tuple(ServiceKind),
            "state": tuple(ServiceState),
            "entry": tuple(ScheduleEntry),
            "handling": tuple(Handling),
        }

    def values(self, label: str) -> tuple[str, ...]:
        """Every value of a label. KeyError for a label that is not closed."""
        return self._closed[label]

    def value(self, label: str, word: str) -> str:
        """``word`` when the label may have it, else "other"."""
        return word if word in self._closed[label] else OTHER

    def expected(self, name: Counter | Histogram) -> Iterator[tuple[str, ...]]:
        """Label values of the series that exist from the start, with the value 0.

        Where nothing has been counted the count is 0. Were the series absent until its first event,
        ``increase()`` would not see that event, and the first failed recovery would alert nobody.
        """
        if name in (Counter.PROBES, Counter.PROBE_FAILURES):
            probes = [(s.name, s.kind.value) for s in self._platform.services.values()]
            yield from probes if name is Counter.PROBES else ((*p, r) for p in probes for r in _FAILURES)
        elif name is Counter.POISON:
            yield from ((reason,) for reason in PoisonReason)
        elif name in _EXPECTED:
            yield from product(*(self.values(label) for label in _EXPECTED[name]))


def _backends(platform: Platform) -> Iterator[str]:
    for service in platform.services.values():
        if service.routing is not None:
            yield service.routing.backend
            if service.routing.read_backend is not None:
                yield service.routing.read_backend


_EXPECTED: Mapping[Counter | Histogram, tuple[str, ...]] = {
    Counter.INCIDENTS: ("service_name", "severity"),
    Counter.RECOVERIES: ("recovery_type",),
    Counter.RECOVERY_FAILURES: ("recovery_type",),
    Counter.ROLLBACKS: ("trigger",),
    Counter.ROLLBACK_FAILURES: ("trigger",),
    Counter.FAILOVERS: ("cluster", "outcome"),
    Counter.BLOCKED: ("guard",),
    Counter.BALANCER_DRIFT: ("backend",),
    Counter.SYNC_SET_EDITED: ("cluster",),
    Counter.REQUESTS: ("answer",),
    Counter.EVENTS_DELIVERED: ("destination",),
    Counter.EVENT_FAILURES: ("destination",),
    Counter.EVENTS_GIVEN_UP: ("destination",),
    Counter.SCHEDULE_MISSED: ("entry", "handling"),
    Histogram.RECOVERY_TIME: ("recovery_type",),
    Histogram.DETECTION_DELAY: ("detector",),
}
"""Steps and probe durations are left out: many series, and nobody alerts on their first increase."""
