"""DataReplication: who streams, who should, and what that means for the data at risk."""

from __future__ import annotations

from dataclasses import dataclass

from ha_tasks.model.cluster import ClusterState
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Service
from ha_tasks.ports.postgres import PostgresControl
from ha_tasks.ports.repositories import Clusters


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicationReport:
    """``ok``: the quorum of the recorded synchronous set streams, so a failover would lose nothing."""

    service: str
    primary: str
    state: ClusterState
    synchronous: tuple[str, ...]
    streaming: tuple[str, ...]
    missing: tuple[str, ...]
    ok: bool

    def to_json(self) -> Json:
        """The report as plain JSON."""
        return {
            "service": self.service,
            "primary": self.primary,
            "state": str(self.state),
            "synchronous": list(self.synchronous),
            "streaming": list(self.streaming),
            "missing": list(self.missing),
            "ok": self.ok,
        }


class DataReplication:
    """Reads only."""

    def __init__(self, *, control: PostgresControl, clusters: Clusters) -> None:
        self._control = control
        self._clusters = clusters

    def check(self, service: Service) -> ReplicationReport:
        """ServiceUnreachable when the recorded primary does not answer; KeyError when none is recorded."""
        cluster = self._clusters.get(service.name)
        streaming = self._control.streaming(service, service.instance(cluster.primary))
        others = {i.name for i in service.instances} - {cluster.primary}
        ok = bool(cluster.sets) and all(
            s.quorum > 0 and len(streaming & set(s.members)) >= s.quorum for s in cluster.sets
        )
        return ReplicationReport(
            service=service.name,
            primary=cluster.primary,
            state=cluster.state,
            synchronous=tuple(sorted({m for s in cluster.sets for m in s.members})),
            streaming=tuple(sorted(streaming)),
            missing=tuple(sorted(others - streaming)),
            ok=ok,
        )
