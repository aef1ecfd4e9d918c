"""An HAProxy in memory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from ha_tasks.errors import BalancerError, BalancerUnreachable
from ha_tasks.model.balancer import ServerState, ServerStatus

_ADDRESS = re.compile(r"[0-9.]+:[0-9]+|\[[0-9a-f:]+\]:[0-9]+")


class FakeBalancer:
    """See ports/balancer.py. ``commands`` are those that were taken, oldest first."""

    def __init__(self, servers: Mapping[tuple[str, str], ServerState]) -> None:
        self.reachable = True
        self._added: set[tuple[str, str]] = set()
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

    def add_server(self, backend: str, server: str, address: str) -> None:
        self._answer()
        if backend not in {known for known, _ in self._servers}:
            raise BalancerError("No such backend.")
        if _ADDRESS.fullmatch(address) is None:
            raise BalancerError(f"{address!r} is no ip:port")
        made = ServerStatus(
            backend=backend,
            server=server,
            address=address,
            admin=ServerState.MAINT,
            up=False,
            weight=100,
            sessions=0,
        )
        self._added.add((backend, server))
        self._servers.setdefault((backend, server), made)

    def move_server(self, backend: str, server: str, address: str) -> None:
        self._servers[backend, server] = replace(self._known(backend, server), address=address)

    def delete_server(self, backend: str, server: str) -> None:
        self._answer()
        status = self._servers.get((backend, server))
        if status is None:
            return
        if status.admin is not ServerState.MAINT or status.sessions or (backend, server) not in self._added:
            raise BalancerError("Only servers in maintenance mode can be deleted.")
        del self._servers[backend, server]

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
        """A reload without a state file: everything is ready again, what was added is gone."""
        for key in self._added & self._servers.keys():
            del self._servers[key]
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
