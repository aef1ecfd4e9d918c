"""Changing the synchronous set of a cluster: the joint rule.

1. Both sets are recorded, in an epoch of their own: a failover in the middle must satisfy both, and late
   commands of an earlier change are refused. Resumed after a crash, it is a new epoch again.
2. The new setting is applied, and every WAL sender that may have read only the old one is ended, of members
   of either set: one that is left could release a commit by a set that is no longer recorded
   (PostgreSQL's ``syncrep.c``: each WAL sender judges by the configuration that it has read).
3. W members of the new set have flushed what the primary has flushed by now.
4. The new set is recorded alone.
"""

from __future__ import annotations

from collections.abc import Callable

from ha_tasks.model.cluster import Cluster, SyncSet
from ha_tasks.model.platform import Service
from ha_tasks.model.sync_change import being_put_back, is_being_put_back, members_of
from ha_tasks.ports.host import Authority
from ha_tasks.ports.repositories import Journal, Warrant
from ha_tasks.workflows.cluster_moves import PostgresTools, wait_for_set


def change_set(
    tools: PostgresTools,
    service: Service,
    cluster: Cluster,
    new: SyncSet,
    *,
    under: Warrant,
    remaining_s: Callable[[], float],
) -> Cluster:
    """The cluster with ``new`` as its only set.

    Fenced: StaleEpoch when somebody else has moved the cluster on; StaleFence when the run that changes it
    has ended, as it does for a failover.

    PassingFailure when a WAL sender does not end, or the new set does not catch up in time: both sets stay
    recorded, and whoever tries again resumes.
    """
    sets = (*(s for s in cluster.sets if s != new), new)
    now = tools.clock.now()
    cluster = tools.clusters.advance(cluster.name, cluster.epoch, now, new_epoch=True, sets=sets, under=under)
    apply_set(tools, service, cluster, new, under.fence)
    wait_for_set(tools, service, cluster.primary, new, remaining_s())
    return tools.clusters.advance(
        cluster.name, cluster.epoch, tools.clock.now(), new_epoch=False, sets=(new,), under=under
    )


def is_edited(tools: PostgresTools, service: Service, cluster: Cluster) -> bool:
    """True when the recorded primary says something else than the record, or putting it back has not ended.

    Raises ServiceUnreachable. While two different sets are recorded, whoever changes them resumes.
    """
    if is_being_put_back(cluster.sets):
        return True
    if len(cluster.sets) != 1:
        return False
    setting = tools.control.sync_setting(service, service.instance(cluster.primary))
    return setting != cluster.sets[0].setting()


def put_back(tools: PostgresTools, service: Service, cluster: Cluster, journal: Journal) -> None:
    """Sets what is recorded. Fenced by the epoch: StaleEpoch once somebody has moved the cluster on.

    That it was begun is recorded before, and taken back when every WAL sender that may have read the edited
    set was ended, so whoever takes it over ends them too. Idempotent. Raises ServiceUnreachable.

    A set that was edited by hand is never made the truth: who could acknowledge in that time is nobody's
    promise.
    """
    wanted = cluster.sets[0]
    if not is_being_put_back(cluster.sets):
        cluster = _recorded(tools, cluster, being_put_back(cluster.sets))
    apply_set(tools, service, cluster, wanted, journal.next_fence(tools.clock.now()))
    _recorded(tools, cluster, (wanted,))


def _recorded(tools: PostgresTools, cluster: Cluster, sets: tuple[SyncSet, ...]) -> Cluster:
    """In the same epoch: what a late command of it sets is the same set."""
    now = tools.clock.now()
    return tools.clusters.advance(cluster.name, cluster.epoch, now, new_epoch=False, sets=sets)


def apply_set(tools: PostgresTools, service: Service, cluster: Cluster, wanted: SyncSet, fence: int) -> None:
    """Sets it on the recorded primary, and ends every WAL sender that may judge by another one."""
    by = Authority(epoch=cluster.epoch, fence=fence)
    tools.agents.set_sync(cluster.primary, wanted.setting(), by)
    primary = service.instance(cluster.primary)
    tools.control.end_walsenders(service, primary, members_of((*cluster.sets, wanted)))
