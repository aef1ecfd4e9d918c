"""What there is for clusters that others lead, put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ha_tasks.adapters.patroni import PatroniManager
from ha_tasks.adapters.redis_control import RedisInfo
from ha_tasks.adapters.sentinel import EachBy, SentinelWord
from ha_tasks.inventory import Inventory
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.cluster_manager import ClusterWord
from ha_tasks.store import Store
from ha_tasks.workflows.led_follow import LedFollower
from ha_tasks.workflows.led_switchover import LedSwitchover
from ha_tasks.workflows.led_watch import LedWatch

if TYPE_CHECKING:
    from ha_tasks.bootstrap.system import System


@dataclass(frozen=True, slots=True, kw_only=True)
class Led:
    """``word``: what whoever leads a service says. ``watch`` opens and closes incidents, ``switchover`` has
    the manager do one.
    """

    word: ClusterWord
    watch: LedWatch
    switchover: LedSwitchover


def led_by_others(inventory: Inventory, store: Store, *, clock: Clock, actor: str) -> Led:
    """Connects to nothing yet."""
    manager = PatroniManager(password=inventory.patroni_password, clock=clock)
    sentinels = SentinelWord(password=inventory.sentinel_password)
    watch = LedWatch(
        platform=inventory.platform,
        observations=store.observations,
        incidents=store.incidents,
        ledger=store.ledger,
        clock=clock,
        actor=actor,
    )
    switchover = LedSwitchover(manager=manager, audit=store.audit, clock=clock)
    word = EachBy(patroni=manager.report, sentinel=sentinels.report)
    return Led(word=word, watch=watch, switchover=switchover)


def follower_of(system: System) -> LedFollower:
    """Leads the balancer to whom Sentinel names."""

    def held() -> str | None:
        return system.store_watch.held() or system.revision.problem()

    return LedFollower(
        platform=system.platform,
        word=system.led.word,
        servers=RedisInfo(system.inventory.secret_for),
        wanted=system.store.wanted,
        router=system.router,
        clock=system.clock,
        held=held,
        stopped=system.is_stopped,
    )
