"""The observer of a process, put together: what it looks at, and what it keeps as recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ha_tasks.bootstrap.led import follower_of
from ha_tasks.bootstrap.replication import replication_watch_of
from ha_tasks.bootstrap.standby import standby_of
from ha_tasks.bootstrap.versions import file_watch_of
from ha_tasks.workflows.cluster_moves import PostgresTools
from ha_tasks.workflows.exit_watch import ExitWatch
from ha_tasks.workflows.in_place import InPlace
from ha_tasks.workflows.left_inventory import LeftInventory
from ha_tasks.workflows.observation import Observer
from ha_tasks.workflows.reconcile import Reconciler
from ha_tasks.workflows.standings import Standings

if TYPE_CHECKING:
    from ha_tasks.bootstrap.system import System


def observer_of(system: System, tools: PostgresTools) -> Observer:
    """The loops of a process that observes."""

    def held() -> str | None:
        return system.store_watch.held() or system.revision.problem()

    reconciler = Reconciler(
        platform=system.platform,
        balancer=system.balancer,
        tools=tools,
        journal=system.store.journal,
        ledger=system.store.ledger,
        incidents=system.store.incidents,
        actor=system.actor,
        stopped=system.is_stopped,
        held=held,
        look=replication_watch_of(system).look,
    )
    standings = Standings(
        platform=system.platform, clusters=system.store.clusters, agents=system.agents, held=held
    )
    in_place = InPlace(
        platform=system.platform,
        clusters=system.store.clusters,
        agents=system.agents,
        incidents=system.store.incidents,
        limits=system.store.limits,
        journal=system.store.journal,
        clock=system.clock,
        actor=system.actor,
        held=held,
    )
    return Observer(
        platform=system.platform,
        detection=system.detection,
        reconciler=reconciler,
        clock=system.clock,
        watch=system.store_watch.look,
        witness=system.witness.look,
        standby=standby_of(system).look,
        tell=standings.tell,
        in_place=in_place.look,
        led=system.led.watch.look,
        follow=follower_of(system).look,
        left=LeftInventory(
            platform=system.platform,
            incidents=system.store.incidents,
            clock=system.clock,
            actor=system.actor,
            held=held,
        ).look,
        files=file_watch_of(system, held).look,
        exits=ExitWatch(platform=system.platform, agents=system.agents),
    )
