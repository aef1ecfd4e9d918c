"""Taking a running PostgreSQL cluster into care: who is primary, who follows, and from then on an epoch."""

from __future__ import annotations

from dataclasses import dataclass

from ha_tasks.errors import Refused
from ha_tasks.model.cluster import Cluster, ClusterState, SyncSet, sync_set_of
from ha_tasks.model.led_by_others import must_be_ours
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Service
from ha_tasks.ports.host import Authority, NodeStatus
from ha_tasks.ports.repositories import Journal
from ha_tasks.workflows.cluster_moves import PostgresTools, wait_for_set

CONFIRM_WITHIN_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """What was found, and what would be set: the synchronous set and the first epoch."""

    service: str
    primary: str
    sync_set: SyncSet
    epoch: int

    def to_json(self) -> Json:
        """As plain JSON."""
        return {
            "service": self.service,
            "primary": self.primary,
            "synchronous_standby_names": self.sync_set.setting(),
            "epoch": self.epoch,
        }


class Adopter:
    """Looks first; ``adopt`` sets what ``look`` has answered."""

    def __init__(self, *, tools: PostgresTools, journal: Journal) -> None:
        self._tools = tools
        self._journal = journal

    def look(self, service: Service) -> Adoption:
        """Reads only. Refused, with what to mend, unless all others stream from one primary."""
        must_be_ours(service)
        self._must_be_new(service)
        statuses = [self._tools.agents.status(i.name, timeout_s=2.0) for i in service.instances]
        primary = _only_primary(service, statuses)
        standbys = {i.name for i in service.instances} - {primary}
        streaming = self._tools.control.streaming(service, service.instance(primary))
        missing = sorted(standbys - streaming)
        if missing:
            raise Refused(
                f"{', '.join(missing)} of {service.name} do not stream from {primary}; each standby must, "
                "with its instance name as application_name in primary_conninfo"
            )
        return Adoption(
            service=service.name,
            primary=primary,
            sync_set=sync_set_of(standbys - service.asynchronous),
            epoch=max(s.epoch for s in statuses) + 1,
        )

    def adopt(self, service: Service, found: Adoption) -> Cluster:
        """Sets the synchronous set, waits until it has what the primary has, records the cluster, routes.

        Idempotent until it is recorded: begun again, it sets the same once more.
        """
        now = self._tools.clock.now()
        by = Authority(epoch=found.epoch, fence=self._journal.next_fence(now))
        primary = service.instance(found.primary)
        self._tools.agents.set_sync(found.primary, found.sync_set.setting(), by)
        self._tools.control.end_walsenders(service, primary, found.sync_set.members)
        wait_for_set(self._tools, service, found.primary, found.sync_set, CONFIRM_WITHIN_S)
        cluster = Cluster(
            name=service.name,
            epoch=found.epoch,
            primary=found.primary,
            state=ClusterState.STEADY,
            sets=(found.sync_set,),
        )
        recorded = self._tools.clusters.register(cluster, now)
        self._tools.router.route_writes(service, recorded.primary)
        # Everybody streams, or it would not have been adopted.
        standbys = [i.name for i in service.instances if i.name != recorded.primary]
        self._tools.router.route_reads(service, standbys)
        return recorded

    def _must_be_new(self, service: Service) -> None:
        try:
            cluster = self._tools.clusters.get(service.name)
        except KeyError:
            return
        raise Refused(f"{service.name} is in care already: primary {cluster.primary}, epoch {cluster.epoch}")


def _only_primary(service: Service, statuses: list[NodeStatus]) -> str:
    """The one node that is not in recovery; Refused when there is none, or more than one."""
    primaries = sorted(s.node for s in statuses if s.in_recovery is False)
    if len(primaries) == 1:
        return primaries[0]
    if not primaries:
        raise Refused(f"no node of {service.name} takes writes: start its primary first")
    raise Refused(
        f"{' and '.join(primaries)} of {service.name} both take writes: stop the wrong one, and rebuild it "
        "as a standby of the other, before anything else"
    )
