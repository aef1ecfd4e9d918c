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

    def shut_sessions(self, backend: str, server: str) -> None:
        """Ends every session on that server. Idempotent."""
        ...
