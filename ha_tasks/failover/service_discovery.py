"""ServiceRegistry: who serves what, who is in rotation, who could step in."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from ha_tasks.errors import UsageError
from ha_tasks.model.balancer import Member, ServerState, WantedServer, latest
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Instance, Platform, Role, Service
from ha_tasks.model.registration import NewRegistration, Registration, faults, file_sd, members, serving
from ha_tasks.ports.registrations import Registrations
from ha_tasks.ports.repositories import WantedServers


class ServiceRegistry:
    """The inventory's instances with what SQL says of their rotation, and those that register themselves.

    Instances of the inventory are probed and recovered; a registered one lives as long as it renews its
    lease, and is told to who asks. The names that a method does not know are a UsageError.
    """

    def __init__(self, platform: Platform, wanted: WantedServers, registrations: Registrations) -> None:
        self._platform = platform
        self._wanted = wanted
        self._registrations = registrations

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

    def register(self, new: NewRegistration, now: datetime) -> Registration:
        """Takes an instance in under a new lease, also in the place of the same name.

        UsageError: it says of itself what cannot be, or bears the name of an instance of the inventory.
        """
        service = self._service(new.service)
        wrong = [*faults(new)]
        if any(i.name == new.name for i in service.instances):
            wrong.append(f"{new.name} is an instance of the inventory; take another name")
        if wrong:
            raise UsageError("; ".join(wrong))
        return self._registrations.register(new, now)

    def renew(self, service_name: str, name: str, lease: int, now: datetime) -> Registration:
        """The lease lasts from now on again. StaleFence: the name was registered anew by somebody.

        UsageError: it is not registered (any more); it registers again then.
        """
        try:
            return self._registrations.renew(self._service(service_name).name, name, lease, now)
        except KeyError:
            raise UsageError(f"{name} of {service_name} is not registered; register it again") from None

    def remove(self, service_name: str, name: str, now: datetime, lease: int | None = None) -> bool:
        """It serves no more; False: it was not there. StaleFence as above.

        Refused: it is the last one that lives, and nobody of the inventory is in rotation.
        """
        service = self._service(service_name)
        staffed = service.name in self._staffed()
        return self._registrations.remove(service.name, name, lease, now, staffed=staffed)

    def registered(self, now: datetime) -> tuple[tuple[Registration, bool], ...]:
        """Every registration, and whether it counts as serving; see ``serving``."""
        known = self._registrations.all()
        living = {(r.service, r.name) for r in serving(known, now, self._staffed())}
        return tuple((r, (r.service, r.name) in living) for r in known)

    def members(self, now: datetime) -> tuple[Member, ...]:
        """Registered instances as the balancers should have them."""
        return members(self._platform, self._registrations.all(), now, self._staffed())

    def file_sd(self, now: datetime) -> list[Json]:
        """Every instance for Prometheus' ``file_sd_configs``."""
        return file_sd(self._platform, self._registrations.all(), now, self._staffed())

    def _staffed(self) -> frozenset[str]:
        """Services of which an instance of the inventory is in rotation."""
        wanted = self._wanted.all()
        return frozenset(s.name for s in self._platform.services.values() if _in_rotation(s, wanted))

    def _service(self, name: str) -> Service:
        try:
            return self._platform.services[name]
        except KeyError:
            raise UsageError(f"the inventory has no service {name}") from None


def rotation(service: Service, wanted: Iterable[WantedServer]) -> tuple[str, ...]:
    """Instances wanted ready in the service's backend, or configured so while nothing else is wanted.

    Of a PostgreSQL service: who takes the writes. All but the spares when that would leave nobody.
    """
    return _in_rotation(service, wanted) or tuple(
        i.name for i in service.instances if i.role is not Role.SPARE
    )


def others_to_serve(service: Service, leaving: Instance, wanted: Iterable[WantedServer]) -> bool:
    """True when another instance is in rotation, or a spare could be put in."""
    serving = set(rotation(service, wanted))
    others = (i for i in service.instances if i.name != leaving.name)
    return any(i.name in serving or i.role is Role.SPARE for i in others)


def _in_rotation(service: Service, wanted: Iterable[WantedServer]) -> tuple[str, ...]:
    backend = service.routing.backend if service.routing else ""
    states = {server: row.state for (place, server), row in latest(wanted).items() if place == backend}
    return tuple(i.name for i in service.instances if _serves(i, states.get(i.name)))


def _serves(instance: Instance, wanted: ServerState | None) -> bool:
    if wanted is None:
        return instance.role is not Role.SPARE
    return wanted is ServerState.READY
