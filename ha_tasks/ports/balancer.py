"""A load balancer's runtime interface."""

from __future__ import annotations

from typing import Protocol

from ha_tasks.model.balancer import ServerState, ServerStatus


class BalancerControl(Protocol):
    """One HAProxy. Raises BalancerUnreachable (retryable) or BalancerError; each call ends within 2 s."""

    def servers(self) -> tuple[ServerStatus, ...]:
        """Every server of every backend."""
        ...

    def set_state(self, backend: str, server: str, state: ServerState) -> None:
        """Idempotent: sets the administrative state; returns once HAProxy has taken it."""
        ...

    def add_server(self, backend: str, server: str, address: str) -> None:
        """A new server, checked, in maintenance; ``address``: ``ip:port``. Idempotent: one of that name stays
        as it is. Gone after a restart or a reload of the balancer.
        """
        ...

    def move_server(self, backend: str, server: str, address: str) -> None:
        """From now on that server is at ``ip:port``. Idempotent."""
        ...

    def delete_server(self, backend: str, server: str) -> None:
        """Takes away what ``add_server`` added. Idempotent. BalancerError: it is not in maintenance, has
        connections, or stands in the balancer's own file.
        """
        ...

    def shut_sessions(self, backend: str, server: str) -> None:
        """Ends every session on that server. Idempotent."""
        ...
