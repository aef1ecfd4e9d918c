"""The client of the host agents, made of an inventory."""

from __future__ import annotations

from ha_tasks.adapters.host_agent import HostAgents
from ha_tasks.inventory import Inventory


def host_agents(inventory: Inventory) -> HostAgents:
    """The client of every host's agent."""
    platform = inventory.platform
    return HostAgents(
        urls={host.name: host.agent_url for host in platform.hosts.values()},
        hosts={i.name: i.host for s in platform.services.values() for i in s.instances},
        key=inventory.agent_key() if platform.hosts else b"",
    )
