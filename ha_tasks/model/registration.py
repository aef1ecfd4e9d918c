"""Instances that registered themselves: a lease each, and who of a service counts as serving."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_address

from ha_tasks.model.balancer import Member, ServerState
from ha_tasks.model.led_by_others import is_ours
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Platform, Role, ServiceKind

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
"""Of an instance: also a server name in HAProxy."""
LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,62}")
"""Of a key in the metadata: Prometheus takes nothing else as a label."""
ADDRESS = re.compile(r"(?:[A-Za-z0-9_.-]+|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})")
SHORTEST_S, LONGEST_S = 1.0, 86400.0
FORGOTTEN_AFTER = timedelta(days=1)
"""So long after its lease ended a registration is still listed, as expired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRegistration:
    """What an instance says of itself. ``address``: ``host:port``; ``ttl_s``: seconds without a renewal."""

    service: str
    name: str
    address: str
    ttl_s: float
    role: Role = Role.ACTIVE
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """``lease``: number under which it is renewed; who registers the same name later gets a higher one."""

    service: str
    name: str
    address: str
    role: Role
    metadata: Mapping[str, str]
    lease: int
    ttl_s: float
    registered_at: datetime
    renewed_at: datetime

    @property
    def expires_at(self) -> datetime:
        """Until then it is taken to live."""
        return self.renewed_at + timedelta(seconds=self.ttl_s)

    @property
    def left(self) -> bool:
        """True when it took its leave; it is remembered so that the balancers can let it go."""
        return self.ttl_s == 0

    def lives(self, now: datetime) -> bool:
        """True before its lease ends."""
        return now < self.expires_at


def faults(new: NewRegistration) -> tuple[str, ...]:
    """What is wrong with it, each with what would be right; empty: nothing."""
    found = []
    if not NAME.fullmatch(new.name):
        found.append(f"{new.name!r} is no name: letters, digits, _ . - and at most 63 of them")
    port = ADDRESS.fullmatch(new.address)
    if port is None or not 0 < int(port.group(1)) < 65536:
        found.append(f"{new.address!r} is no host:port")
    if not SHORTEST_S <= new.ttl_s <= LONGEST_S:
        found.append(f"a lease lasts {SHORTEST_S:g} to {LONGEST_S:g} seconds, not {new.ttl_s:g}")
    if new.role not in (Role.ACTIVE, Role.SPARE):
        found.append(f"an instance registers as {Role.ACTIVE} or {Role.SPARE}, not {new.role}")
    found += [f"{key!r} is no key: letters, digits and _" for key in new.metadata if not LABEL.fullmatch(key)]
    return tuple(found)


def serving(
    registrations: Iterable[Registration], now: datetime, staffed: Collection[str] = ()
) -> tuple[Registration, ...]:
    """Those of each service whose lease runs, in the order given.

    Where nobody's does, and the service is not ``staffed`` by others, the last known ones stay: that all are
    gone at once says more of the registry than of them, and a list without anybody once meant "everything"
    (Site Reliability Engineering, chapter 7).
    """
    known = tuple(registrations)
    living = {*staffed, *(r.service for r in known if r.lives(now))}
    return tuple(r for r in known if r.lives(now) or (r.service not in living and not r.left))


def is_last(registration: Registration, registrations: Iterable[Registration], now: datetime) -> bool:
    """True when nobody else of its service would be left serving."""
    others = [r for r in registrations if r.service == registration.service and r.name != registration.name]
    return not any(r.lives(now) for r in others)


def forgotten(registrations: Iterable[Registration], now: datetime) -> tuple[Registration, ...]:
    """Those that expired long ago, of services of which somebody lives."""
    known = tuple(registrations)
    kept = {(r.service, r.name) for r in serving(known, now)}
    old = now - FORGOTTEN_AFTER
    return tuple(r for r in known if r.expires_at < old and (r.service, r.name) not in kept)


def members(
    platform: Platform,
    registrations: Iterable[Registration],
    now: datetime,
    staffed: Collection[str] = (),
) -> tuple[Member, ...]:
    """Registered instances of HTTP services that we balance, as the balancers should have them.

    Those with a name for an address are left out: HAProxy takes only an ip:port at run time.
    """
    known = tuple(r for r in registrations if r.service in platform.services)
    serves = {(r.service, r.name) for r in serving(known, now, staffed)}
    found = []
    for registration in known:
        service = platform.services[registration.service]
        if service.routing is None or service.kind is not ServiceKind.HTTP or not is_ours(service):
            continue
        if not _is_ip(registration.address) or any(i.name == registration.name for i in service.instances):
            continue
        state = ServerState.MAINT if registration.role is Role.SPARE else ServerState.READY
        gone = (registration.service, registration.name) not in serves
        found.append(
            Member(
                backend=service.routing.backend,
                server=registration.name,
                address=registration.address,
                state=None if gone else state,
            )
        )
    return tuple(found)


def _is_ip(address: str) -> bool:
    try:
        ip_address(address.rpartition(":")[0].strip("[]"))
    except ValueError:
        return False
    return True


def file_sd(
    platform: Platform, registrations: Iterable[Registration], now: datetime, staffed: Collection[str] = ()
) -> list[Json]:
    """Every instance, of the inventory and registered, a group each, as Prometheus' ``file_sd`` reads it."""
    groups = [
        _group(service.name, i.name, i.address, i.role, {})
        for service in platform.services.values()
        for i in service.instances
    ]
    return groups + [
        _group(r.service, r.name, r.address, r.role, r.metadata) for r in serving(registrations, now, staffed)
    ]


def _group(service: str, name: str, address: str, role: Role, metadata: Mapping[str, str]) -> Json:
    labels = {"service": service, "name": name, "role": str(role)}
    return {"targets": [address], "labels": {**labels, **{f"meta_{k}": v for k, v in metadata.items()}}}
