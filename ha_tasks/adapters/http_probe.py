"""Probes HTTP instances: one GET of the check's path, judged by its status."""

from __future__ import annotations

from collections.abc import Sequence

from ha_tasks.adapters.deadline import Deadline
from ha_tasks.adapters.http_get import get
from ha_tasks.adapters.looking import Sight, Vantage
from ha_tasks.model.platform import Instance, Service
from ha_tasks.model.probe import OutcomeKind, ProbeOutcome
from ha_tasks.ports.clock import Clock


class HttpProber:
    """See ports/probes.py. ERROR covers another status, a reset and what is not HTTP."""

    def __init__(self, *, vantage: str, clock: Clock) -> None:
        self._vantage = Vantage(vantage, clock)
        self._clock = clock

    def probe(self, service: Service, instances: Sequence[Instance]) -> list[ProbeOutcome]:
        """One outcome per instance, side by side; reads only."""
        return self._vantage.outcomes(service, instances, lambda instance: self._look(service, instance))

    def _look(self, service: Service, instance: Instance) -> Sight:
        check = service.check
        answer = get(instance.address, check.path, Deadline(self._clock, check.timeout_s))
        if answer.status == check.expect_status:
            return Sight()
        return Sight(kind=OutcomeKind.ERROR, detail=f"HTTP {answer.status}, not {check.expect_status}")
