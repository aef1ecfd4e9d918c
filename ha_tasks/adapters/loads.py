"""Loads through the entries of the inventory's services."""

from __future__ import annotations

from ha_tasks.adapters.get_load import GetLoad
from ha_tasks.adapters.postgres_session import Logins
from ha_tasks.adapters.write_load import WriteLoad
from ha_tasks.errors import UsageError
from ha_tasks.model.platform import Platform, Service, ServiceKind
from ha_tasks.ports.clock import Clock


class EntryLoads:
    """See ports/faults.py (Loads). ``logins`` is whoever the loads shall write as."""

    def __init__(self, platform: Platform, logins: Logins, clock: Clock) -> None:
        self._platform = platform
        self._logins = logins
        self._clock = clock

    def writes(self, service: str, *, writers: int = 4, pause_s: float = 0.05) -> WriteLoad:
        """Raises UsageError when it is no PostgreSQL service with an entry."""
        found, entry = self._entry(service, ServiceKind.POSTGRES)
        login = self._logins(found)
        return WriteLoad(entry=entry, login=login, clock=self._clock, writers=writers, pause_s=pause_s)

    def gets(self, service: str, *, clients: int = 4, pause_s: float = 0.01) -> GetLoad:
        """Raises UsageError when it is no HTTP service with an entry."""
        _, entry = self._entry(service, ServiceKind.HTTP)
        return GetLoad(url=entry, clock=self._clock, clients=clients, pause_s=pause_s)

    def _entry(self, name: str, kind: ServiceKind) -> tuple[Service, str]:
        service = self._platform.services.get(name)
        if service is None or service.kind is not kind or service.routing is None:
            raise UsageError(f"{name} is no {kind} service with an entry")
        return service, service.routing.entry
