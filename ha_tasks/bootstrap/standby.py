"""The stand-by driver of an observer, put together: it looks at the broker itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ha_tasks.names import Queue
from ha_tasks.workflows.standby import StandbyDriver

if TYPE_CHECKING:
    from ha_tasks.bootstrap.system import System


def standby_of(system: System) -> StandbyDriver:
    """Drives the runs of that system in its own process while the broker is away."""
    # A third of a second to import, and only observers need it.
    from ha_tasks.adapters.broker_queues import queues_at

    queues = queues_at(system.inventory.broker_url())

    def follow() -> None:
        """What the sweeper sees to while the broker is there."""
        system.approver.expire()
        system.follower.follow_all()

    return StandbyDriver(
        journal=system.store.journal,
        ask=lambda: queues.backlogs([Queue.RECOVERY.value]),
        advance=system.orchestrator.advance,
        follow=follow,
        clock=system.clock,
    )
