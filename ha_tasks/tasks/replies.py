"""Replies to bare clients: the answer goes to the queue that the caller's message names, and nowhere else.

The engine has no result backend: nothing it does depends on one. A caller whose own Celery has the backend
``rpc://`` reads the answer with ``.get()``; any Kombu client reads it from its ``reply_to`` queue.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from celery import Celery
from kombu import Connection
from kombu.exceptions import KombuError

from ha_tasks.model.broker import broker_address
from ha_tasks.model.plain import Json
from ha_tasks.tasks import broker

logger = logging.getLogger(__name__)

REPLY_QUEUE = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|ha\.reply\.[0-9a-zA-Z.-]{8,64}|amq\.[0-9a-zA-Z._+/=-]{1,160}"
)
"""Names of a caller's own queue: Celery's, our client's, RabbitMQ's. Not one of ours, or a reply would be
put among the work, for whoever can send.
"""
UNREAD_S = 60
"""On Redis a reply that nobody fetches is thrown away after so long."""


def reply(app: Celery, request: Any, answer: Json) -> bool:
    """Sends the answer to the caller, if it waits for one; True when the broker took it.

    Never raises for a broker that is away: what was done is done, and the caller asks for its status.
    """
    where = request.reply_to
    if not where or not REPLY_QUEUE.fullmatch(where):
        return False
    with quick_connection(app) as connection:
        try:
            _send(connection, request, answer, where)
        except broker_errors(connection) as error:
            logger.warning("no reply to task %s: %s", request.id, type(error.__cause__ or error).__name__)
            return False
    return True


def quick_connection(app: Celery) -> Connection:
    """A connection for one who must not wait long; not connected yet."""
    address = broker_address(app.conf.broker_url)
    return app.connection_for_write(
        heartbeat=0,
        connect_timeout=broker.connect_timeout_s(address),
        transport_options=broker.sending(address),
    )


def broker_errors(connection: Connection) -> tuple[type[BaseException], ...]:
    """Everything that a broker that is away or says no can raise."""
    return (KombuError, OSError, *connection.connection_errors, *connection.channel_errors)


def _send(connection: Connection, request: Any, answer: Json, where: str) -> None:
    producer = connection.Producer(auto_declare=False)
    producer.publish(
        _result(request.id, answer),
        exchange="",
        routing_key=where,
        correlation_id=request.correlation_id or request.id,
        serializer="json",
        delivery_mode=1,
        retry=False,
    )
    channel: Any = producer.channel
    if hasattr(channel, "client"):
        channel.client.expire(where, UNREAD_S)


def _result(task: str, answer: Json) -> Json:
    """As Celery's own rpc backend words it."""
    return {"task_id": task, "status": "SUCCESS", "result": answer, "traceback": None, "children": []}
