"""HealthMonitor: looks at every instance side by side, and scores what was seen."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from ha_tasks.errors import UsageError
from ha_tasks.model.health import ServiceHealth, instance_score, service_health
from ha_tasks.model.platform import Service, ServiceKind
from ha_tasks.model.probe import ProbeOutcome
from ha_tasks.ports.probes import Prober


class HealthMonitor:
    """One prober per kind of service. Reads only."""

    def __init__(self, probers: Mapping[ServiceKind, Prober]) -> None:
        self._probers = dict(probers)

    def look(self, services: Sequence[Service]) -> list[ProbeOutcome]:
        """One outcome per instance of the services, all side by side: it takes as long as the slowest.

        A target that does not answer is an outcome, not an error. UsageError for a kind without prober.
        """
        work = [(self._prober(service), service) for service in services]
        if not work:
            return []
        with ThreadPoolExecutor(max_workers=len(work), thread_name_prefix="health") as pool:
            looks = [pool.submit(prober.probe, service, service.instances) for prober, service in work]
        return [outcome for look in looks for outcome in look.result()]

    def assess(
        self,
        service: Service,
        outcomes: Collection[ProbeOutcome],
        in_rotation: Collection[str],
        now: datetime,
    ) -> ServiceHealth:
        """The service's health by the recent outcomes of every vantage; the rule is model/health.py."""
        mine: dict[str, list[ProbeOutcome]] = {instance.name: [] for instance in service.instances}
        for outcome in outcomes:
            if outcome.target.service == service.name and outcome.target.instance in mine:
                mine[outcome.target.instance].append(outcome)
        scores = {name: instance_score(service, found, now) for name, found in mine.items()}
        return service_health(service, scores, in_rotation)

    def _prober(self, service: Service) -> Prober:
        try:
            return self._probers[service.kind]
        except KeyError:
            raise UsageError(f"nothing here can probe {service.name}, a {service.kind} service") from None
