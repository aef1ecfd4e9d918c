"""The situation of a service: what stands in SQL about it that decides what a recovery's steps would do."""

from __future__ import annotations

from ha_tasks.failover.service_discovery import rotation
from ha_tasks.model.cluster import SyncSet
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Service, ServiceKind
from ha_tasks.ports.repositories import Clusters, WantedServers


class SituationReader:
    """Reads only. It is part of each plan and of its hash: see model/plan_hash.py."""

    def __init__(self, *, clusters: Clusters, wanted: WantedServers) -> None:
        self._clusters = clusters
        self._wanted = wanted

    def __call__(self, service: Service) -> Json:
        """Of a database its primary, sets and unfinished promotions; of others who is in rotation."""
        if service.kind is not ServiceKind.POSTGRES:
            return {"rotation": list(rotation(service, self._wanted.all()))}
        try:
            cluster = self._clusters.get(service.name)
        except KeyError:
            return {"primary": None}
        return {
            "primary": cluster.primary,
            "sets": [_plain(each) for each in cluster.sets],
            "unfinished": [{"candidate": u.candidate, **_plain(u.sync_set)} for u in cluster.unfinished],
        }


def _plain(each: SyncSet) -> Json:
    return {"quorum": each.quorum, "members": list(each.members)}
