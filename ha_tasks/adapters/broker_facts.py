"""What a broker says of itself, for ``ha-tasks doctor``: asks, and changes nothing that stays."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

import amqp
import redis
from redis.sentinel import SentinelConnectionPool

from ha_tasks.adapters.amqp_queues import AmqpLink
from ha_tasks.adapters.redis_links import RedisLinks
from ha_tasks.model.broker import BrokerAddress, BrokerKind
from ha_tasks.model.broker_settings import (
    RabbitFacts,
    RedisFacts,
    Setting,
    rabbit_settings,
    redis_settings,
)

LOGIN = ("username", "password", "connection_pool")
"""What a stranger does not have."""
LOOPBACK = ("127.", "localhost", "::1")


def broker_settings(address: BrokerAddress) -> Iterator[Setting]:
    """Everything a broker must be set to, and whether it is. Raises BrokerUnreachable within a second."""
    local = all(host.startswith(LOOPBACK) for host, _ in address.places)
    if address.kind is BrokerKind.AMQP:
        return rabbit_settings(_rabbit(address, local))
    links = RedisLinks(address)
    try:
        return redis_settings(links.ask(lambda client: _redis(client, local)))
    finally:
        links.close()


def _redis(client: redis.Redis, local: bool) -> RedisFacts:
    info = _permitted(client.info) or {}
    settings = _permitted(lambda: client.config_get("maxmemory-policy", "appendonly")) or {}
    aof = settings.get("appendonly")
    return RedisFacts(
        version=str(info.get("valkey_version") or info.get("redis_version") or "0"),
        policy=settings.get("maxmemory-policy") or info.get("maxmemory_policy"),
        aof=aof == "yes" if aof else (bool(info["aof_enabled"]) if "aof_enabled" in info else None),
        user=_permitted(client.acl_whoami),
        needs_password=_needs_password(client),
        loopback=local,
    )


def _permitted(question: Any) -> Any:  # noqa: ANN401 - whatever the driver answers
    """The answer, or None when this user may not ask."""
    try:
        answer = question()
    except redis.exceptions.NoPermissionError:
        return None
    if isinstance(answer, dict):
        return {_text(key): _text(value) for key, value in answer.items()}
    return _text(answer)


def _text(value: Any) -> Any:  # noqa: ANN401 - as above
    return value.decode() if isinstance(value, bytes) else value


def _needs_password(client: redis.Redis) -> bool:
    """Knocks without one: what the configuration means is what happens then."""
    named_by_sentinel = isinstance(client.connection_pool, SentinelConnectionPool)
    pool: Any = client.connection_pool
    known = {k: v for k, v in pool.connection_kwargs.items() if k not in LOGIN}
    if named_by_sentinel:
        host, port = pool.get_master_address()
        known |= {"host": host, "port": port}
    else:
        known["connection_class"] = pool.connection_class
    with redis.Redis(connection_pool=redis.ConnectionPool(**known)) as stranger:
        try:
            stranger.ping()
        except (redis.exceptions.AuthenticationError, redis.exceptions.NoPermissionError):
            return True
    return False


def _rabbit(address: BrokerAddress, local: bool) -> RabbitFacts:
    link = AmqpLink(address)
    try:
        channel = link.channel()
        properties = channel.connection.server_properties
        return RabbitFacts(
            version=str(properties.get("version", "0")),
            user=unquote(urlsplit(address.urls[0]).username or "guest"),
            refusal=_refusal(channel),
            loopback=local,
        )
    except (amqp.exceptions.AMQPError, OSError) as error:
        raise link.broken(error) from None
    finally:
        link.close()


def _refusal(channel: Any) -> str:  # noqa: ANN401 - amqp's channel
    """Why a queue of ours could not be declared, written and read; '' when it could. It is deleted again."""
    name = f"ha.doctor.{uuid.uuid4()}"
    try:
        channel.queue_declare(
            name, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum", "x-expires": 60_000}
        )
        channel.basic_publish_confirm(amqp.Message("{}"), routing_key=name)
        channel.basic_get(name, no_ack=True)
    except amqp.exceptions.AMQPError as error:
        return f"{type(error).__name__}: {getattr(error, 'reply_text', '')}"[:200]
    finally:
        with suppress(amqp.exceptions.AMQPError, OSError):
            channel.queue_delete(name)
    return ""
