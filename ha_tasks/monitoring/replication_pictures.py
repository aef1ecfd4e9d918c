"""Replication as the scheduled check saw it last: what is wrong, what would be lost, who is silent.

A picture that is older than three rounds of the check says nothing about now, and then there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from prometheus_client.metrics_core import Metric

from ha_tasks.model.cluster import ClusterState
from ha_tasks.model.plain import Json
from ha_tasks.model.replication_findings import FindingCode
from ha_tasks.monitoring.prometheus import Words, metric
from ha_tasks.monitoring.sources import Sources

FRESH = timedelta(seconds=30)


def pictures(sources: Sources, now: datetime) -> Iterator[Metric]:
    """Part of the part ``replication``. Raises StoreUnreachable."""
    names = [s.name for s in sources.platform.services.values() if s.replicates]
    kept = sources.pictures.latest()
    seen = {name: kept[name][1] for name in names if name in kept and now - kept[name][0] <= FRESH}
    yield metric("ha_cluster_state").family(_states(sources, names))
    yield metric("ha_service_rpo_seconds").family(
        {(name,): sources.platform.services[name].rpo_s for name in names}
    )
    yield from _of_clusters(seen)
    yield from _of_nodes(seen)


def _states(sources: Sources, names: list[str]) -> dict[Words, float]:
    states: dict[Words, float] = {}
    for name in names:
        try:
            recorded = sources.clusters.get(name).state
        except KeyError:
            continue
        states |= {(name, state.value): float(state is recorded) for state in ClusterState}
    return states


def _of_clusters(seen: Mapping[str, Json]) -> Iterator[Metric]:
    there = {name: {finding["code"] for finding in picture["findings"]} for name, picture in seen.items()}
    yield metric("ha_replication_finding").family(
        {(name, code.value): float(code in found) for name, found in there.items() for code in FindingCode}
    )
    yield metric("ha_replication_missing").family({(n,): float(len(p["missing"])) for n, p in seen.items()})
    risks = {name: picture["risk"] for name, picture in seen.items()}
    yield metric("ha_replication_risk_known").family(
        {(name,): float(risk["certainty"] != "unknown") for name, risk in risks.items()}
    )
    for unit in ("bytes", "seconds"):
        yield metric(f"ha_replication_risk_{unit}").family(
            {(name,): float(risk[unit]) for name, risk in risks.items() if risk[unit] is not None}
        )


def _of_nodes(seen: Mapping[str, Json]) -> Iterator[Metric]:
    nodes = {(name, node["node"]): node for name, picture in seen.items() for node in picture["nodes"]}
    yield metric("ha_replication_receiver_silence_seconds").family(
        {words: node["silent_s"] for words, node in nodes.items() if node["silent_s"] is not None}
    )
    yield metric("ha_replication_slot_held_bytes").family(
        {words: _held(node) for words, node in nodes.items() if node["role"] != "silent"}
    )


def _held(node: Json) -> float:
    return float(sum(slot["holds"] or 0 for slot in node["slots"] if not slot["active"]))
