"""Redis and Valkey servers by INFO, which every login may ask that is allowed to see how they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ha_tasks.adapters.redis_probe import without_password
from ha_tasks.adapters.wire import parse_address
from ha_tasks.errors import ServiceUnreachable
from ha_tasks.model.platform import Instance, Service
from ha_tasks.model.redis_replication import RedisReading

WAITS = 3
"""Connect, authenticate, read: each has its part of the time."""


class RedisInfo:
    """Implements ports.redis.RedisControl. ``password`` is asked for each time; a connection per question."""

    def __init__(self, password: Callable[[Service], str | None] = without_password) -> None:
        self._password = password

    def reading(self, service: Service, node: Instance, *, timeout_s: float = 1.0) -> RedisReading:
        """See the port. The driver's words may quote what was sent, so only the kind of error is told."""
        host, port = parse_address(node.address)
        wait_s = timeout_s / WAITS
        client = redis.Redis(
            host=host,
            port=port,
            password=self._password(service),
            protocol=2,
            socket_connect_timeout=wait_s,
            socket_timeout=wait_s,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            with client:
                said: Any = client.info()
        except redis.RedisError as error:
            raise ServiceUnreachable(f"{node.name} at {node.address}: {_told(error)}") from None
        return _reading(node.name, said)


def _reading(node: str, said: Mapping[str, Any]) -> RedisReading:
    """Redis and Valkey say it alike; the old words (master, slave) stand in both."""
    if "role" not in said or "master_replid" not in said:
        raise ServiceUnreachable(f"{node}: its INFO has nothing about replication; may its user see that?")
    primary = said["role"] == "master"
    heard = said.get("master_last_io_seconds_ago", -1)
    return RedisReading(
        node=node,
        primary=primary,
        replid=said["master_replid"],
        offset=int(said["master_repl_offset"] if primary else said.get("slave_repl_offset", 0)),
        link_up=said.get("master_link_status") == "up",
        syncing=bool(said.get("master_sync_in_progress", 0)),
        heard_s=None if heard < 0 else float(heard),
        guarded="min_slaves_good_slaves" in said,
        priority=int(said.get("slave_priority", 100)),
        cluster=bool(said.get("cluster_enabled", 0)),
    )


def _told(error: redis.RedisError) -> str:
    if isinstance(error, redis.exceptions.AuthenticationError):
        return "it refused the password"
    if isinstance(error, redis.exceptions.TimeoutError):
        return "no answer in time"
    if isinstance(error, redis.exceptions.BusyLoadingError):
        return "it is loading its data"
    return f"it did not answer ({type(error).__name__})"
