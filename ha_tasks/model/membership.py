"""Which nodes of a recorded cluster stand where they should: in the synchronous set, or beside it. Pure.

``cluster`` None: nothing is recorded, or somebody else leads it; then nothing is said about anybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from ha_tasks.model.cluster import Cluster, ClusterState
from ha_tasks.model.platform import Service
from ha_tasks.model.probe import ProbeOutcome
from ha_tasks.model.sync_change import looks_at, members_of, unheard


def led(cluster: Cluster | None) -> Cluster | None:
    """The cluster, while nobody fails it over."""
    if cluster is None or cluster.unfinished:
        return None
    return cluster if cluster.state in (ClusterState.STEADY, ClusterState.BLOCKED) else None


def outside(cluster: Cluster | None, service: Service) -> frozenset[str]:
    """Nodes of a steady cluster that not every recorded set names: a change was never ended.

    Who is asynchronous stands outside of it on purpose.
    """
    if cluster is None or cluster.state is not ClusterState.STEADY:
        return frozenset()
    inside = set.intersection(*(set(s.members) for s in cluster.sets)) if cluster.sets else set()
    return _synchronous(service) - inside - {cluster.primary}


def unfed(
    cluster: Cluster | None, service: Service, outcomes: Sequence[ProbeOutcome], now: datetime
) -> Mapping[str, datetime]:
    """Asynchronous nodes of a steady cluster that its primary has sent nothing for too long: since when."""
    known = led(cluster)
    if known is None or known.state is not ClusterState.STEADY:
        return {}
    nodes = service.asynchronous - members_of(known.sets) - {known.primary}
    return unheard(nodes, looks_at(known.primary, outcomes), now)


def leaving(
    cluster: Cluster | None, service: Service, outcomes: Sequence[ProbeOutcome], now: datetime
) -> Mapping[str, datetime]:
    """Members of the recorded sets that should leave them, and since when.

    Whoever a primary that serves has sent nothing for too long; and who must be no member, as long as there
    are others.
    """
    known = led(cluster)
    if known is None:
        return {}
    members = members_of(known.sets)
    wrong = members & service.asynchronous if members - service.asynchronous else frozenset()
    return {**dict.fromkeys(wrong, now), **unheard(members, looks_at(known.primary, outcomes), now)}


def doubted(cluster: Cluster | None) -> list[str]:
    """Candidates of a failover that did not end, each of which may be a primary by now."""
    if cluster is None or cluster.state is not ClusterState.FAILING:
        return []
    return sorted({u.candidate for u in cluster.unfinished})


def redundant(cluster: Cluster, service: Service) -> bool:
    """The synchronous set has every other node that may be in it."""
    others = _synchronous(service) - {cluster.primary}
    return len(cluster.sets) == 1 and set(cluster.sets[0].members) == others


def _synchronous(service: Service) -> frozenset[str]:
    return frozenset(i.name for i in service.instances) - service.asynchronous
