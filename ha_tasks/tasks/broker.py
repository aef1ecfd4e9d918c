"""How each kind of broker is used: queues, transport options, and what a sender may wait for."""

from __future__ import annotations

from typing import Any

from kombu import Exchange, Queue
from redis.backoff import NoBackoff
from redis.retry import Retry

from ha_tasks import names
from ha_tasks.model.broker import BrokerAddress, BrokerKind
from ha_tasks.model.tls import amqp_options, taken_out

VISIBILITY_TIMEOUT_S = 25
"""Longer than a usual step; a step that takes longer is delivered again, and its lease refuses that."""
SEND_BUDGET_S = 0.8
"""What a send may cost when nobody answers, all URLs together; the promise is a second."""
ASK_SENTINEL_S = 0.2
HEARTBEAT_S = 10
UNLIMITED_DELIVERIES = 1_000_000
"""For the dead-letter queue: looking at it hands a message out and takes it back, which RabbitMQ counts."""


def queue(name: str, kind: BrokerKind) -> Queue:
    """A queue of ours. On RabbitMQ it is replicated, and what kills its workers goes to ``ha.dead``."""
    return Queue(
        name,
        Exchange("ha", type="direct"),
        routing_key=name,
        queue_arguments=_quorum(name) if kind is BrokerKind.AMQP else None,
    )


def _quorum(name: str) -> dict[str, Any]:
    if name == names.DEAD_QUEUE:
        return {
            "x-queue-type": "quorum",
            "x-max-length": names.DEAD_KEPT,
            "x-overflow": "drop-head",
            "x-delivery-limit": UNLIMITED_DELIVERIES,
        }
    return {
        "x-queue-type": "quorum",
        # RabbitMQ counts how often a message may come back, not how often it is handed out.
        "x-delivery-limit": names.DELIVERY_LIMIT - 1,
        "x-dead-letter-exchange": names.DEAD_QUEUE,
        "x-dead-letter-routing-key": names.DEAD_QUEUE,
    }


def dead_queue() -> Queue:
    """The dead-letter queue of RabbitMQ behind its own exchange; on Redis it is a plain list."""
    exchange = Exchange(names.DEAD_QUEUE, type="direct")
    return Queue(
        names.DEAD_QUEUE,
        exchange,
        routing_key=names.DEAD_QUEUE,
        queue_arguments=_quorum(names.DEAD_QUEUE),
    )


def settings(address: BrokerAddress) -> dict[str, Any]:
    """Celery's settings that depend on the broker."""
    common: dict[str, Any] = {"broker_url": ";".join(address.urls), "broker_connection_timeout": 2}
    if address.kind is BrokerKind.AMQP:
        return (
            common
            | amqp_tls(address)
            | {
                # A queue that was declared with other arguments by hand is an error, not a second truth.
                "task_default_queue_type": "quorum",
                "worker_detect_quorum_queues": True,
                # For messages with an ETA, which we do not send; Celery declares its queues for them anyway.
                "broker_native_delayed_delivery_queue_type": "quorum",
                "broker_heartbeat": HEARTBEAT_S,
                "broker_transport_options": {"confirm_publish": True},
            }
        )
    return common | {"worker_disable_prefetch": True, "broker_transport_options": redis_options(address)}


def amqp_tls(address: BrokerAddress) -> dict[str, Any]:
    """For ``amqps``: the TLS settings, which py-amqp does not read off URLs. The host name is filled in
    by our transport (connection.py), for each URL its own.
    """
    bare, found = zip(*(taken_out(url) for url in address.urls), strict=True)
    if found[0] is None:
        return {}
    return {"broker_url": ";".join(bare), "broker_use_ssl": amqp_options(found[0], "")}


def redis_options(address: BrokerAddress, unacked: str = "fast") -> dict[str, Any]:
    """A dead worker's messages come back after the visibility timeout and one sweep of a second.

    With kombu's defaults the sweep comes every 100 s only. Workers that share a broker but need another
    timeout must use other ``unacked`` keys: the smallest timeout of any of them holds for all.
    """
    return {
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "unacked_mutex_expire": 10,
        "unacked_key": f"unacked.{unacked}",
        "unacked_index_key": f"unacked.{unacked}.idx",
        "unacked_mutex_key": f"unacked.{unacked}.mutex",
        "socket_keepalive": True,
        "health_check_interval": 5,
        "socket_timeout": 10,
        "socket_connect_timeout": 1,
        **_sentinel(address),
    }


def _sentinel(address: BrokerAddress) -> dict[str, Any]:
    """A Sentinel that does not answer costs a fifth of a second, then the next one is asked."""
    if address.kind is not BrokerKind.SENTINEL:
        return {}
    asked: dict[str, Any] = {
        "socket_timeout": ASK_SENTINEL_S,
        "socket_connect_timeout": ASK_SENTINEL_S,
        "retry": Retry(NoBackoff(), 0),
    }
    if address.sentinel_password:
        asked["password"] = address.sentinel_password
    return {"master_name": address.master_name, "sentinel_kwargs": asked}


def sending(address: BrokerAddress) -> dict[str, Any]:
    """What a sender's connection has beside the settings: it gives up early, and tries each URL once."""
    each_s = SEND_BUDGET_S / (2 * len(address.urls))
    tries = {"max_retries": len(address.urls) - 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}
    if address.kind is BrokerKind.AMQP:
        return {"read_timeout": each_s, "write_timeout": each_s, **tries}
    return {"socket_timeout": each_s, "socket_connect_timeout": each_s, "health_check_interval": 0, **tries}


def connect_timeout_s(address: BrokerAddress) -> float:
    """For the handshake with one of the URLs."""
    return SEND_BUDGET_S / (2 * len(address.urls))


def publishing(address: BrokerAddress) -> dict[str, Any]:
    """Options of each publication: RabbitMQ confirms it, and gives back what no queue takes."""
    if address.kind is BrokerKind.AMQP:
        return {"mandatory": True, "confirm_timeout": SEND_BUDGET_S / 2}
    return {}
