"""A person's word that a store may be acted on again: every cluster is led anew, above all that was seen.

For a store that was restored, failed over or lost its data. Who is primary is asked of the servers: what
such a store says of it may be long over.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from ha_tasks.errors import DeadlineExceeded, Refused, UsageError
from ha_tasks.model.cluster import Cluster, ClusterState, SyncSet, sync_set_of
from ha_tasks.model.fault import closest
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Platform, Service
from ha_tasks.model.run import Run, aborted
from ha_tasks.ports.host import Authority, NodeStatus
from ha_tasks.ports.identity import Identity, StoreIdentity
from ha_tasks.ports.repositories import Journal
from ha_tasks.workflows.cluster_moves import PostgresTools, wait_for_set
from ha_tasks.workflows.store_watch import AgentMemory, Seen, StoreWatch, is_led
from ha_tasks.workflows.waiting import wait_until

AGENT_TIMEOUT_S = 2.0
CONFIRM_WITHIN_S = 15.0
LEASES_OVER_WITHIN_S = 5.0
_WHY = "the store was approved anew"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How the store stands beside what the agents remember. ``reason`` None: it is trusted."""

    said: Identity
    seen: Seen
    reason: str | None

    def to_json(self) -> Json:
        """As plain JSON."""
        clusters = sorted({*self.said.epochs, *self.seen.epochs})
        return {
            "store_id": self.said.store_id,
            "trusted": self.reason is None,
            "reason": self.reason or "",
            "fence": self.said.fence,
            "fence_seen": max(self.seen.fence, self.said.fence_seen),
            "clusters": [
                {
                    "name": name,
                    "epoch": self.said.epochs.get(name, 0),
                    "epoch_seen": self._epoch_seen(name),
                }
                for name in clusters
            ],
            "silent": list(self.seen.silent),
        }

    def _epoch_seen(self, cluster: str) -> int:
        return max(self.seen.epochs.get(cluster, 0), self.said.epochs_seen.get(cluster, 0))

    def epoch_above(self, cluster: str) -> int:
        """Higher than the store's own and every agent's; 0 for a cluster that nobody has led yet."""
        highest = max(self.said.epochs.get(cluster, 0), self._epoch_seen(cluster))
        return highest + 1 if highest else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Approved:
    """What was done: the clusters as they are led now, runs that were ended, runs that could not be."""

    clusters: tuple[Cluster, ...]
    ended: tuple[int, ...]
    left: tuple[int, ...]

    def to_json(self) -> Json:
        """As plain JSON."""
        return {
            "clusters": [
                {
                    "name": c.name,
                    "epoch": c.epoch,
                    "primary": c.primary,
                    "sync": [s.setting() for s in c.sets],
                }
                for c in self.clusters
            ],
            "ended_runs": list(self.ended),
            "left_runs": list(self.left),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A cluster as its servers show it."""

    service: Service
    primary: str
    sync_set: SyncSet
    epoch: int


class StoreApproval:
    """Looks first; ``approve`` may be called again until it has ended."""

    def __init__(
        self,
        *,
        platform: Platform,
        tools: PostgresTools,
        memory: AgentMemory,
        watch: StoreWatch,
        identity: StoreIdentity,
        journal: Journal,
    ) -> None:
        self._led = [s for s in platform.services.values() if is_led(s)]
        self._tools = tools
        self._memory = memory
        self._watch = watch
        self._identity = identity
        self._journal = journal

    def standing(self) -> Standing:
        """Asks agents and store. What is found is kept, so that nothing acts by a store that is behind."""
        reason = self._watch.look()
        seen = self._memory.seen(AGENT_TIMEOUT_S)
        return Standing(said=self._identity.read(), seen=seen, reason=reason)

    def approve(self, actor: str, without: Collection[str] = ()) -> Approved:
        """Leads every cluster anew, above every epoch and fence that was seen; then everything acts again.

        Refused, and nothing changed, while an agent is silent that ``without`` does not name, while a
        cluster has not exactly one primary, and for a store that is trusted: runs would be ended for
        nothing. UsageError for a ``without`` that is no agent, or answers: what it knows counts. An approval
        that was interrupted leaves the store held.
        """
        standing = self.standing()
        self._left_out_rightly(standing.seen.silent, without)
        _nobody_is_missing(standing.seen.silent, without)
        if standing.reason is None and not standing.seen.silent:
            raise Refused("the store is trusted already: there is nothing to approve")
        found = [self._look(s, epoch, without) for s in self._led if (epoch := standing.epoch_above(s.name))]
        self._identity.approving(actor)
        self._journal.raise_fence(max(standing.seen.fence, standing.said.fence_seen, standing.said.fence))
        ended, left = self._end_runs(actor)
        clusters = tuple(self._lead(each) for each in found)
        self._identity.approved(actor, self._tools.clock.now())
        self._watch.look()
        return Approved(clusters=clusters, ended=ended, left=left)

    def _left_out_rightly(self, silent: Collection[str], without: Collection[str]) -> None:
        known = self._memory.names()
        for name in without:
            if name not in known:
                raise UsageError(f'there is no agent "{name}"; {closest(name, known)}')
            if name not in silent:
                raise UsageError(f"the agent of {name} answers: leave out --without {name}")

    def _look(self, service: Service, epoch: int, without: Collection[str]) -> _Found:
        """Reads only. Refused unless one node takes writes."""
        names = [i.name for i in service.instances if i.name not in without]
        statuses = [self._tools.agents.status(name, timeout_s=AGENT_TIMEOUT_S) for name in names]
        primary = _only_primary(service, statuses)
        streaming = self._tools.control.streaming(service, service.instance(primary))
        standbys = streaming & ({*names} - {primary})
        if not standbys and len(service.instances) > 1:
            raise Refused(
                f"no standby of {service.name} streams from {primary}: bring one back first, "
                "or its next commit would wait for nobody"
            )
        return _Found(service=service, primary=primary, sync_set=sync_set_of(standbys), epoch=epoch)

    def _lead(self, found: _Found) -> Cluster:
        """First the epoch, then the set in force, then the record that it is: as an adoption does it."""
        service, now = found.service, self._tools.clock.now()
        by = Authority(epoch=found.epoch, fence=self._journal.next_fence(now))
        self._tools.agents.set_sync(found.primary, found.sync_set.setting(), by)
        members = found.sync_set.members
        self._tools.control.end_walsenders(service, service.instance(found.primary), members)
        wait_for_set(self._tools, service, found.primary, found.sync_set, CONFIRM_WITHIN_S)
        cluster = Cluster(
            name=service.name,
            epoch=found.epoch,
            primary=found.primary,
            state=ClusterState.STEADY,
            sets=(found.sync_set,),
        )
        self._identity.seat(cluster, now)
        self._tools.router.route_writes(service, cluster.primary)
        self._tools.router.route_reads(service, members)
        return cluster

    def _end_runs(self, actor: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(ended, left): what an old store still has under way is over, whatever became of it."""

        def all_ended() -> bool:
            ended.extend(run.id for run in self._journal.active() if self._ended(run, actor))
            return not self._journal.active()

        ended: list[int] = []
        clock = self._tools.clock
        try:
            wait_until(all_ended, clock=clock, within_s=LEASES_OVER_WITHIN_S, what="every lease is over")
        except DeadlineExceeded:
            return tuple(ended), tuple(run.id for run in self._journal.active())
        return tuple(ended), ()

    def _ended(self, run: Run, actor: str) -> bool:
        """False while somebody holds its lease, or it is not due."""
        now = self._tools.clock.now()
        taken = self._journal.claim(run.id, run.position, run.phase, owner=actor, now=now, lease_s=3.0)
        if taken is None:
            called_off = self._journal.call_off(run.id, f"called off by {actor}: {_WHY}", now, actor)
            return called_off is not None
        over = replace(aborted(taken, now), error=f"ended by {actor}: {_WHY}")
        self._journal.settle(taken, over, taken.fence, outcome="aborted", error=over.error, due=None)
        return True


def _nobody_is_missing(silent: Collection[str], without: Collection[str]) -> None:
    missing = sorted({*silent} - {*without})
    if missing:
        options = " ".join(f"--without {name}" for name in missing)
        raise Refused(
            f"{', '.join(missing)}: the agent does not answer, and may remember a higher epoch; "
            f"start it, or if it is gone for good: {options}"
        )


def _only_primary(service: Service, statuses: Collection[NodeStatus]) -> str:
    """The one node that takes writes; Refused when there is none, or more than one."""
    primaries = sorted(status.node for status in statuses if status.in_recovery is False)
    if len(primaries) == 1:
        return primaries[0]
    if primaries:
        raise Refused(
            f"{' and '.join(primaries)} of {service.name} both take writes: stop the wrong one first"
        )
    raise Refused(f"no node of {service.name} takes writes: start its primary first")
