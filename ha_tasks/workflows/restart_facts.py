"""Which nodes of a cluster wait for a restart, asked of servers and agents. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from ha_tasks.errors import HaTasksError, Unreachable
from ha_tasks.model.platform import Instance, Service
from ha_tasks.model.rolling import NodeState, Pending
from ha_tasks.ports.host import DatabaseAgent
from ha_tasks.ports.postgres import PostgresControl


def node_states(control: PostgresControl, agents: DatabaseAgent, service: Service) -> Mapping[str, NodeState]:
    """Every node's, side by side."""

    def state(instance: Instance) -> NodeState:
        return NodeState(
            pending=_pending(control, service, instance), on_disk=_on_disk(agents, instance.name)
        )

    with ThreadPoolExecutor(max_workers=max(1, len(service.instances))) as pool:
        found = pool.map(state, service.instances)
        return {i.name: seen for i, seen in zip(service.instances, found, strict=True)}


def _pending(control: PostgresControl, service: Service, instance: Instance) -> Pending | None:
    try:
        said = control.reading(service, instance)
    except Unreachable:
        return None
    major, minor = divmod(said.version, 10_000)
    return Pending(version=f"{major}.{minor}", settings=said.pending_restart)


def _on_disk(agents: DatabaseAgent, node: str) -> str:
    try:
        return agents.status(node, timeout_s=2.0).binary
    except HaTasksError:  # whoever cannot be asked is an objection of the restart itself
        return ""
