"""PostgreSQL seen from the control plane, by SQL only. What must happen on the host: ports/host.py."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from ha_tasks.model.platform import Instance, Service
from ha_tasks.model.replication import NodeReading
from ha_tasks.model.switchover import Transaction


class PostgresControl(Protocol):
    """Raises ServiceUnreachable (retryable) when a server does not answer in time."""

    def flush_lsn(self, service: Service, node: Instance) -> int:
        """The primary's WAL flush position now, in bytes."""
        ...

    def flushed_past(self, service: Service, primary: Instance, lsn: int) -> frozenset[str]:
        """Names of the standbys that have flushed past ``lsn``, by the primary's pg_stat_replication."""
        ...

    def streaming(self, service: Service, primary: Instance) -> frozenset[str]:
        """Names of the standbys that stream from the primary now."""
        ...

    def receiving(self, service: Service, primary: Instance) -> frozenset[str]:
        """Names of the standbys that the primary sends WAL to now, those that still catch up included."""
        ...

    def sync_setting(self, service: Service, primary: Instance) -> str:
        """``synchronous_standby_names`` as a new session of the primary has it."""
        ...

    def checkpoint(self, service: Service, primary: Instance) -> None:
        """CHECKPOINT; idempotent. pg_rewind says "no rewind required" on a new primary before it."""
        ...

    def end_walsenders(self, service: Service, primary: Instance, names: Collection[str]) -> None:
        """Ends the WAL senders of these standbys and returns when they are gone; PassingFailure otherwise.

        Names are compared as PostgreSQL compares them with a synchronous set, without regard to case.
        They come back within 200 ms with the new settings.
        """
        ...

    def transactions(
        self, service: Service, primary: Instance, older_than_s: float
    ) -> tuple[Transaction, ...]:
        """Transactions of clients that are under way there for longer than that, the oldest first."""
        ...

    def system_identifier(self, service: Service, node: Instance) -> str:
        """The number that a server and all its standbys share, and no other."""
        ...

    def reading(self, service: Service, node: Instance) -> NodeReading:
        """Everything about its replication, its settings for it and our rights, in one question."""
        ...

    def write_canary(self, service: Service, entry: str, token: str, timeout_s: float) -> str:
        """Writes and reads back a row through ``entry`` (host:port); returns the node that took it."""
        ...
