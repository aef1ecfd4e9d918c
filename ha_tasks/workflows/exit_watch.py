"""Being told at once that a PostgreSQL, or its agent, is gone, instead of finding it at the next probe.

Only a hint to look now: what has happened is judged by the probes that follow, as always.
"""

from __future__ import annotations

from contextlib import suppress

from ha_tasks.errors import HaTasksError
from ha_tasks.model.platform import Platform
from ha_tasks.ports.host import DatabaseAgent, Postmaster
from ha_tasks.workflows.store_watch import is_led


class ExitWatch:
    """A question to each agent of the clusters that we lead; it answers once there is something to say."""

    def __init__(self, *, platform: Platform, agents: DatabaseAgent) -> None:
        self.nodes = tuple(
            instance.name
            for service in platform.services.values()
            if is_led(service)
            for instance in service.instances
        )
        self._agents = agents
        self._ran: set[str] = set()

    def look(self, node: str) -> bool:
        """True when it ran at the last look and does not now, or its agent is gone.

        Returns as soon as that is so, otherwise after some seconds; one thread for each node.
        """
        runs = False
        with suppress(HaTasksError):  # an agent that is away, or older than this question
            runs = self._agents.await_exit(node) is Postmaster.RUNNING
        ran = node in self._ran
        (self._ran.add if runs else self._ran.discard)(node)
        return ran and not runs
