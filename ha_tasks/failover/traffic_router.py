"""TrafficRouter: which node takes the writes of a PostgreSQL service, which nodes the reads."""

from __future__ import annotations

from collections.abc import Collection

from ha_tasks.errors import UsageError
from ha_tasks.failover.load_balancer import LoadBalancer
from ha_tasks.model.balancer import ServerState
from ha_tasks.model.platform import Instance, Routing, Service
from ha_tasks.ports.repositories import Reign, Warrant


class TrafficRouter:
    """Moves traffic by name. Every move converges: it is recorded, pushed at once, and kept.

    The methods answer the balancers that did not take it yet, and raise as ``LoadBalancer.want`` does,
    and UsageError for a node that is none of the service's: a typing error must not close a backend.
    """

    def __init__(self, load_balancer: LoadBalancer) -> None:
        self._load_balancer = load_balancer

    def route_writes(
        self, service: Service, node: str, *, under: Warrant | Reign | None = None
    ) -> tuple[str, ...]:
        """Exactly one server ready; the others in maintenance, with their sessions ended, before that."""
        backend, changes = _routing(service).backend, _only(service, {node})
        return self._load_balancer.want(
            {(backend, name): state for name, state in changes.items()},
            f"{node} takes the writes of {service.name}",
            shut_sessions=True,
            under=under,
        )

    def route_reads(
        self, service: Service, nodes: Collection[str], *, under: Warrant | None = None
    ) -> tuple[str, ...]:
        """Exactly these servers ready for reads; sessions on the others may end by themselves.

        Without a node, or without a backend for reads, nothing is changed: the balancer's own checks
        know best then.
        """
        backend, changes = _routing(service).read_backend, _only(service, set(nodes))
        if backend is None or not nodes:
            return ()
        return self._load_balancer.want(
            {(backend, name): state for name, state in changes.items()},
            f"{', '.join(sorted(nodes))} serve the reads of {service.name}",
            under=under,
        )

    def isolate(self, service: Service, node: str, *, under: Warrant | None = None) -> tuple[str, ...]:
        """Takes a node out of writes and reads, and ends its sessions; nobody is put in its place."""
        instance = _nodes(service, {node})[node]
        return self._load_balancer.remove_unhealthy_instance(service, instance, under=under)


def _only(service: Service, nodes: Collection[str]) -> dict[str, ServerState]:
    """Server -> state, so that these nodes serve and no other."""
    known = _nodes(service, nodes)
    return {name: ServerState.READY if name in nodes else ServerState.MAINT for name in known}


def _nodes(service: Service, needed: Collection[str]) -> dict[str, Instance]:
    """Every instance by name; UsageError when a needed one is not among them."""
    known = {instance.name: instance for instance in service.instances}
    unknown = set(needed) - known.keys()
    if unknown:
        raise UsageError(f"{service.name} has no node {', '.join(sorted(unknown))}")
    return known


def _routing(service: Service) -> Routing:
    if service.routing is None:
        raise UsageError(f"{service.name} has no routing, so no balancer serves it")
    return service.routing
