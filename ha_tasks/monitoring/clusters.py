"""Clusters: their replication by the latest probes, and whether anything is done about them automatically."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from prometheus_client.metrics_core import Metric

from ha_tasks.model.cluster import Cluster, ClusterState
from ha_tasks.model.led_by_others import is_ours
from ha_tasks.model.platform import Platform, Service, ServiceKind
from ha_tasks.model.switch import EVERYTHING_WORD, OBSERVE, STOP, shown
from ha_tasks.monitoring.prometheus import Words, metric
from ha_tasks.monitoring.replication import ReplicationView, view
from ha_tasks.monitoring.services import stale_after_s
from ha_tasks.monitoring.sources import Sources
from ha_tasks.ports.repositories import Clusters

LAG_SEEN_FOR = timedelta(seconds=30)
"""How far back the primary's positions are looked through; a longer lag is told as at least this."""
MODES = {STOP: "off", OBSERVE: "observe"}
"""Switch -> label ``mode``."""
HALTED = frozenset({ClusterState.PAUSED, ClusterState.BLOCKED})


def replication(sources: Sources, now: datetime) -> Iterator[Metric]:
    """The part ``replication``. Raises StoreUnreachable."""
    views = {}
    for service in _clustered(sources.platform):
        seen = _view(sources, service, now)
        if seen is not None:
            views[service.name] = seen
    return _families(views)


def automation(sources: Sources) -> Iterator[Metric]:
    """The part ``automation``. Raises StoreUnreachable.

    Also for a scope that the inventory does not name any more: what is switched off must not be invisible.
    """
    off: dict[Words, float] = {
        (scope, mode): 0.0
        for scope in (EVERYTHING_WORD, *sources.platform.services)
        for mode in MODES.values()
    }
    since: dict[Words, float] = {}
    for switch in sources.limits.switches():
        if switch.name in MODES:
            words = (shown(switch.scope), MODES[switch.name])
            off[words], since[words] = 1.0, switch.since.timestamp()
    for service in _clustered(sources.platform):
        cluster = _cluster(sources.clusters, service.name)
        if cluster is not None:
            off[service.name, "halted"] = float(cluster.state in HALTED)
    yield metric("ha_store_trusted").family({(): float(not sources.identity.read().held)})
    yield metric("ha_automation_disabled").family(off)
    yield metric("ha_automation_disabled_since_timestamp_seconds").family(since)


def _view(sources: Sources, service: Service, now: datetime) -> ReplicationView | None:
    cluster = _cluster(sources.clusters, service.name) if is_ours(service) else None
    members = None if cluster is None else frozenset(m for s in cluster.sets for m in s.members)
    outcomes = sources.observations.since(now - LAG_SEEN_FOR, service.name)
    return view(outcomes, now, stale_after_s(service), members)


def _clustered(platform: Platform) -> list[Service]:
    return [s for s in platform.services.values() if s.kind is ServiceKind.POSTGRES]


def _cluster(clusters: Clusters, name: str) -> Cluster | None:
    try:
        return clusters.get(name)
    except KeyError:
        return None


def _families(views: Mapping[str, ReplicationView]) -> Iterator[Metric]:
    lags = {(name, node): lag for name, v in views.items() for node, lag in v.lags.items()}
    yield metric("ha_replication_lag_seconds").family({words: lag.seconds for words, lag in lags.items()})
    yield metric("ha_replication_lag_bytes").family({words: float(lag.bytes) for words, lag in lags.items()})
    yield metric("ha_replication_primaries").family({(n,): float(v.primaries) for n, v in views.items()})
    yield metric("ha_replication_standbys_ready").family(
        {(n,): float(v.standbys_ready) for n, v in views.items()}
    )
    yield metric("ha_replication_timeline").family(
        {(name, node): float(number) for name, v in views.items() for node, number in v.timelines.items()}
    )
