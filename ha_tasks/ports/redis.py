"""What is asked of a Redis or Valkey server."""

from __future__ import annotations

from typing import Protocol

from ha_tasks.model.platform import Instance, Service
from ha_tasks.model.redis_replication import RedisReading


class RedisControl(Protocol):
    """Raises ServiceUnreachable (retryable) when a server does not answer in time, or answers an error."""

    def reading(self, service: Service, node: Instance, *, timeout_s: float = 1.0) -> RedisReading:
        """Its role, history, offset and link. Reads only."""
        ...
