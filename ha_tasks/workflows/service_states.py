"""How each service fares, as the ledger keeps it: its state, since when, and when nobody judged."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from ha_tasks.model.health import ServiceState, service_health
from ha_tasks.model.led_by_others import is_ours
from ha_tasks.model.platform import Service
from ha_tasks.model.serving import ledger_entry, nobody_serves
from ha_tasks.model.verdict import Verdict
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.ledger import Ledger

GAP = timedelta(seconds=10)
"""Longer than any pause between two judgements of observers that live."""


class ServiceStates:
    """Idempotent: any number of observers may tell the same."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    def tell(self, service: Service, verdicts: Sequence[Verdict], rotation: Sequence[str]) -> None:
        """``verdicts``: of this service. ``rotation``: the instances that get the traffic."""
        serving = [v for v in verdicts if v.target.instance in rotation]
        health = service_health(service, {v.target.instance: v.score for v in verdicts}, rotation)
        self._tell_the_gap(service)
        entry = ledger_entry(health, serving)
        if not rotation and not is_ours(service) and nobody_serves(service, verdicts):
            entry = ServiceState.UNAVAILABLE, 0.0
        if entry is None:
            return
        state, score = entry
        at = now = self._clock.now()
        if state is ServiceState.UNAVAILABLE:
            # Down since the first failed probe of the confirmed failure, not since it was confirmed.
            at = max((v.failing_since for v in serving if v.failing_since is not None), default=at)
        self._ledger.service_state(service.name, state, score, at, judged_at=now)

    def _tell_the_gap(self, service: Service) -> None:
        """Time in which nobody judged is unknown time, whatever was true before it."""
        _, judged_at = self._ledger.scores().get(service.name, (0.0, None))
        if judged_at is not None and self._clock.now() - judged_at > GAP:
            self._ledger.service_state(service.name, ServiceState.UNKNOWN, None, judged_at)
