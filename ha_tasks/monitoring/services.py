"""Services out of the availability ledger: state, score, time per state, availability of the whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from prometheus_client.metrics_core import Metric

from ha_tasks.model.availability import (
    SERVING,
    WINDOW,
    IntegrityResult,
    Life,
    ServiceState,
    availability_percentage,
    integrity_score,
    seconds_by_state,
    state_at,
)
from ha_tasks.model.platform import Platform, Service
from ha_tasks.monitoring.prometheus import Words, metric
from ha_tasks.monitoring.sources import Sources
from ha_tasks.ports.ledger import Interval, Ledger
from ha_tasks.ports.repositories import Observations

STALE_INTERVALS = 3
STALE_AT_LEAST_S = 10.0
"""A look is fresh for three probe intervals, and for two rounds of the scheduled probes that are the safety
net below the observers."""
SETTLED_AFTER_STALE = 2.0
"""States are back-dated to the first failed probe. After twice the stale time nothing is changed any more."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def stale_after_s(service: Service) -> float:
    """Seconds after which a service that nobody has looked at is unknown."""
    return max(STALE_AT_LEAST_S, STALE_INTERVALS * service.check.interval_s)


class Services:
    """Reads the ledger; keeps in memory only what it has already added up."""

    def __init__(self, platform: Platform, ledger: Ledger, observations: Observations) -> None:
        self._platform = platform
        self._ledger = ledger
        self._observations = observations
        self._clock = ServiceSeconds(platform, ledger)

    def families(self, now: datetime) -> Iterator[Metric]:
        """The metrics of the part ``services``. Raises StoreUnreachable."""
        scores = self._ledger.scores()
        judged = {name: at for name, (_, at) in scores.items()} | self._looked_at(now)
        lives = lives_of(self._platform, self._ledger.intervals(now - WINDOW), judged)
        states = {name: state_at(life, now) for name, life in lives.items()}
        percentage = availability_percentage(lives.values(), now)
        known = {name: state for name, state in states.items() if state is not ServiceState.UNKNOWN}
        yield metric("system_availability_percentage").family({} if percentage is None else {(): percentage})
        yield metric("service_health_score").family({(n,): scores[n][0] for n in known if n in scores})
        yield metric("ha_service_up").family(
            {
                (name,): float(state in SERVING)
                for name, state in known.items()
                if state is not ServiceState.MAINTENANCE
            }
        )
        yield metric("ha_service_seconds_total").family(self._clock.until(now, judged))

    def _looked_at(self, now: datetime) -> dict[str, datetime]:
        """When each service was last probed, as far as that is fresh.

        Every round of probes is judged. The moment that is kept beside a score does not tell it while a
        failure lasts: it is back-dated to the first failed probe then.
        """
        latest = {}
        for name, service in self._platform.services.items():
            outcomes = self._observations.since(now - timedelta(seconds=stale_after_s(service)), name)
            if outcomes:
                latest[name] = max(outcome.known_at for outcome in outcomes)
        return latest


def integrity(sources: Sources, now: datetime) -> Iterator[Metric]:
    """The part ``integrity``: a check weighs as much as the service it covers. Raises StoreUnreachable."""
    weights = {name: service.weight for name, service in sources.platform.services.items()}
    results = [
        IntegrityResult(
            ok=ok, at=at, weight=weights.get(target, 1.0), due_within_s=sources.integrity_due_s.get(check)
        )
        for check, target, ok, at in sources.ledger.integrity_results()
    ]
    score = integrity_score(results, now)
    yield metric("data_integrity_score").family({} if score is None else {(): score})


def lives_of(
    platform: Platform, intervals: Iterable[Interval], judged: Mapping[str, datetime]
) -> dict[str, Life]:
    """Every service of the platform with its intervals; those of services that are gone are left out."""
    stretches: dict[str, list[Interval]] = {name: [] for name in platform.services}
    for interval in intervals:
        if interval.service in stretches:
            stretches[interval.service].append(interval)
    return {
        name: Life(
            weight=service.weight,
            stretches=stretches[name],
            judged_at=judged.get(name),
            stale_after_s=stale_after_s(service),
        )
        for name, service in platform.services.items()
    }


class ServiceSeconds:
    """Seconds per service and state since the beginning, as a counter that never falls.

    A state is back-dated when it is told, and so takes time away from the one before. A counter that
    falls is read as one that began anew, with all it says added again; so time is counted only once
    it is settled, and never counted again.
    """

    def __init__(self, platform: Platform, ledger: Ledger) -> None:
        self._platform = platform
        self._ledger = ledger
        self._settled_s = SETTLED_AFTER_STALE * max(map(stale_after_s, platform.services.values()), default=0)
        self._upto = EPOCH
        self._seconds: dict[Words, float] = {}

    def until(self, now: datetime, judged: Mapping[str, datetime]) -> Mapping[Words, float]:
        """(service, state) -> seconds up to the settled past of ``now``. Raises StoreUnreachable."""
        settled = now - timedelta(seconds=self._settled_s)
        if settled > self._upto:
            lives = lives_of(self._platform, self._ledger.intervals(self._upto), judged)
            for name, life in lives.items():
                self._add(name, seconds_by_state(life, self._upto, settled, now))
            self._upto = settled
        return dict(self._seconds)

    def _add(self, service: str, seconds: Mapping[ServiceState, float]) -> None:
        for state, more in seconds.items():
            key = (service, state.value)
            self._seconds[key] = self._seconds.get(key, 0.0) + more
