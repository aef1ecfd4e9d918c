"""The connection poolers (pgbouncer) in front of a PostgreSQL service: holding its clients for a moment.

Each verb is about every pooler of the service, and does nothing for a service that has none. Raises
PoolerUnreachable (retryable) when one does not answer, PoolerError when one refuses.
"""

from __future__ import annotations

from typing import Protocol

from ha_tasks.model.platform import Service


class PoolerControl(Protocol):
    """All verbs are idempotent."""

    def pause(self, service: Service, within_s: float) -> None:
        """No new transaction begins, clients wait; returns once no transaction is under way.

        PassingFailure when that takes longer than ``within_s``; the pause is called off everywhere then,
        before it raises.
        """
        ...

    def resume(self, service: Service) -> None:
        """Clients go on, over new connections to the server."""
        ...

    def reconnect(self, service: Service) -> None:
        """Every connection to a server is replaced as soon as it is free."""
        ...

    def is_paused(self, service: Service) -> bool:
        """True when one of the poolers holds its clients."""
        ...
