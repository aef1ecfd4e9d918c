"""ServiceRegistry: who serves what, who is in rotation, who could step in."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ha_tasks.errors import UsageError
from ha_tasks.model.balancer import ServerState, WantedServer, latest
from ha_tasks.model.platform import Instance, Platform, Role, Service
from ha_tasks.ports.repositories import WantedServers


class ServiceRegistry:
    """The inventory's instances, with what SQL says of their rotation. Reads only.

    The names that a method does not know are a UsageError.
    """

    def __init__(self, platform: Platform, wanted: WantedServers) -> None:
        self._platform = platform
        self._wanted = wanted

    def instances(self, service_name: str) -> tuple[Instance, ...]:
        """Every instance, in the inventory's order."""
        return self._service(service_name).instances

    def roles(self, service_name: str) -> dict[str, Role]:
        """What each instance is configured to be, by its name."""
        return {instance.name: instance.role for instance in self.instances(service_name)}

    def in_rotation(self, service_name: str) -> tuple[str, ...]:
        """Names of the instances that shall get traffic, in the inventory's order.

        Never empty: when nothing at all is in rotation, the list says what it said at the start. A
        list without anybody once meant "everything" (Site Reliability Engineering, chapter 7).
        """
        return rotation(self._service(service_name), self._wanted.all())

    def get_backup_instance(self, service_name: str, *, unfit: Collection[str] = ()) -> Instance | None:
        """The first spare that is not in rotation and not ``unfit``; None when there is none."""
        service = self._service(service_name)
        serving = {*rotation(service, self._wanted.all()), *unfit}
        spares = (i for i in service.instances if i.role is Role.SPARE and i.name not in serving)
        return next(spares, None)

    def _service(self, name: str) -> Service:
        try:
            return self._platform.services[name]
        except KeyError:
            raise UsageError(f"the inventory has no service {name}") from None


def rotation(service: Service, wanted: Iterable[WantedServer]) -> tuple[str, ...]:
    """Instances wanted ready in the service's backend, or configured so while nothing else is wanted.

    Of a PostgreSQL service: who takes the writes. All but the spares when that would leave nobody.
    """
    backend = service.routing.backend if service.routing else ""
    states = {server: row.state for (place, server), row in latest(wanted).items() if place == backend}
    serving = tuple(i.name for i in service.instances if _serves(i, states.get(i.name)))
    return serving or tuple(i.name for i in service.instances if i.role is not Role.SPARE)


def others_to_serve(service: Service, leaving: Instance, wanted: Iterable[WantedServer]) -> bool:
    """True when another instance is in rotation, or a spare could be put in."""
    serving = set(rotation(service, wanted))
    others = (i for i in service.instances if i.name != leaving.name)
    return any(i.name in serving or i.role is Role.SPARE for i in others)


def _serves(instance: Instance, wanted: ServerState | None) -> bool:
    if wanted is None:
        return instance.role is not Role.SPARE
    return wanted is ServerState.READY
