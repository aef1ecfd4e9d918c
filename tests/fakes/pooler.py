"""A pgbouncer in memory."""

from __future__ import annotations

from ha_tasks.errors import PassingFailure, PoolerError, PoolerUnreachable
from ha_tasks.model.platform import Service


class FakePooler:
    """See ports/pooler.py. ``busy``: a transaction is under way and does not end."""

    def __init__(self, database: str = "app") -> None:
        self.database = database
        self.reachable = True
        self.busy = False
        self.paused = False
        self.commands: list[str] = []

    def pause(self, service: Service, within_s: float) -> None:
        if self._asked(service, "pause"):
            if self.busy:
                raise PassingFailure(f"a transaction was still under way after {within_s:g} s")
            self.paused = True

    def resume(self, service: Service) -> None:
        if self._asked(service, "resume"):
            self.paused = False

    def reconnect(self, service: Service) -> None:
        self._asked(service, "reconnect")

    def is_paused(self, service: Service) -> bool:
        return self._asked(service, "is_paused") and self.paused

    def _asked(self, service: Service, command: str) -> bool:
        if service.pooler is None:
            return False
        if not self.reachable:
            raise PoolerUnreachable("pgbouncer does not answer")
        if service.pooler.database != self.database:
            raise PoolerError(f"no such database: {service.pooler.database}")
        self.commands.append(command)
        return True
