"""The client of the host agents, made of an inventory."""

from __future__ import annotations

from collections.abc import Mapping

from ha_tasks.adapters.host_agent import HostAgents
from ha_tasks.inventory import Inventory
from ha_tasks.model.led_by_others import refusal
from ha_tasks.model.platform import Platform


def host_agents(inventory: Inventory) -> HostAgents:
    """The client of every host's agent."""
    platform = inventory.platform
    return HostAgents(
        urls={host.name: host.agent_url for host in platform.hosts.values()},
        hosts={i.name: i.host for s in platform.services.values() for i in s.instances},
        key=inventory.agent_key() if platform.hosts else b"",
        others=_others(platform),
    )


def _others(platform: Platform) -> Mapping[str, str]:
    """Nodes, units and files that others lead -> why nothing is done to them."""
    return {
        name: why
        for service in platform.services.values()
        if (why := refusal(service))
        for instance in service.instances
        for name in (instance.name, f"{instance.host}/{instance.unit}")
    } | {
        file.key: why
        for service in platform.services.values()
        if (why := refusal(service))
        for file in service.files
    }
