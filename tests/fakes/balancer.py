"""An HAProxy in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ha_tasks.errors import BalancerError, BalancerUnreachable
from ha_tasks.model.balancer import ServerState, ServerStatus


class FakeBalancer:
    """See ports/balancer.py. ``commands`` are those that were taken, oldest first."""

    def __init__(self, servers: Mapping[tuple[str, str], ServerState]) -> None:
        self.reachable = True
        self.commands: list[tuple[str, str, str]] = []
        self._servers = {
            (backend, server): ServerStatus(
                backend=backend,
                server=server,
                address="127.0.0.1:1",
                admin=state,
                up=state is not ServerState.MAINT,
                weight=100,
                sessions=0,
            )
            for (backend, server), state in servers.items()
        }

    def servers(self) -> tuple[ServerStatus, ...]:
        self._answer()
        return tuple(self._servers.values())

    def set_state(self, backend: str, server: str, state: ServerState) -> None:
        status = self._known(backend, server)
        up = state is not ServerState.MAINT
        self._servers[backend, server] = replace(status, admin=state, up=up)
        self.commands.append((str(state), backend, server))

    def shut_sessions(self, backend: str, server: str) -> None:
        self._servers[backend, server] = replace(self._known(backend, server), sessions=0)
        self.commands.append(("shut", backend, server))

    def states(self, backend: str) -> dict[str, str]:
        """Server -> administrative state, for assertions."""
        return {s.server: str(s.admin) for s in self._servers.values() if s.backend == backend}

    def set_sessions(self, backend: str, server: str, sessions: int) -> None:
        """Clients come or go."""
        self._servers[backend, server] = replace(self._servers[backend, server], sessions=sessions)

    def set_up(self, backend: str, server: str, up: bool) -> None:
        """Its own health check changed its mind."""
        self._servers[backend, server] = replace(self._servers[backend, server], up=up)

    def reload(self) -> None:
        """A reload without a state file: everything is ready again."""
        for key, status in self._servers.items():
            self._servers[key] = replace(status, admin=ServerState.READY, up=True)

    def _known(self, backend: str, server: str) -> ServerStatus:
        self._answer()
        if (backend, server) not in self._servers:
            raise BalancerError(f"{backend}/{server}: No such server.")
        return self._servers[backend, server]

    def _answer(self) -> None:
        if not self.reachable:
            raise BalancerUnreachable("the fake balancer does not answer")
