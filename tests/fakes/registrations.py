"""Registrations in memory. See ports/registrations.py for the contract."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from threading import RLock

from ha_tasks.errors import Refused, StaleFence
from ha_tasks.model.registration import NewRegistration, Registration, forgotten, is_last
from tests.fakes.locked import one_at_a_time


class FakeRegistrations:
    """By (service, name)."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.lease = 0
        self.known: dict[tuple[str, str], Registration] = {}

    @one_at_a_time
    def register(self, new: NewRegistration, now: datetime) -> Registration:
        self.lease += 1
        made = Registration(
            service=new.service,
            name=new.name,
            address=new.address,
            role=new.role,
            metadata=dict(new.metadata),
            lease=self.lease,
            ttl_s=new.ttl_s,
            registered_at=now,
            renewed_at=now,
        )
        self.known[new.service, new.name] = made
        for old in forgotten(self.all(), now):
            del self.known[old.service, old.name]
        return made

    @one_at_a_time
    def renew(self, service: str, name: str, lease: int, now: datetime) -> Registration:
        found = self.known[service, name]
        if found.lease != lease:
            raise StaleFence(f"{name} was registered anew")
        self.known[service, name] = replace(found, renewed_at=max(found.renewed_at, now))
        return self.known[service, name]

    @one_at_a_time
    def remove(
        self, service: str, name: str, lease: int | None, now: datetime, *, staffed: bool = False
    ) -> bool:
        found = self.known.get((service, name))
        if found is None or found.left:
            return False
        if lease not in (None, found.lease):
            raise StaleFence(f"{name} was registered anew")
        if not staffed and is_last(found, self.all(), now):
            raise Refused(f"{name} is the last")
        self.lease += 1
        self.known[service, name] = replace(found, lease=self.lease, ttl_s=0.0, renewed_at=now)
        return True

    @one_at_a_time
    def all(self) -> tuple[Registration, ...]:
        return tuple(self.known[key] for key in sorted(self.known))
