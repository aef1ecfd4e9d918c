"""The exchange ``ha.events``: a topic on the broker, the routing key is the verb (``incident.opened``).

Who listens is told within a second or two; who is away is told nothing on Redis, and on RabbitMQ what its
own queue keeps. What must arrive goes by webhook.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from celery import Celery
from kombu import Connection, Exchange, Producer

from ha_tasks.errors import NotDelivered
from ha_tasks.model.event import Event
from ha_tasks.tasks.replies import broker_errors, quick_connection

NAME = "ha.events"
KEPT_ON_REDIS = 10_000
"""A listener's queue on Redis has no limit of its own: one that never comes back would fill the broker."""


class ExchangeSink:
    """Implements ``EventSink``. Keeps its connection until something goes wrong; safe in a forked child."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._connection: Connection | None = None

    def deliver(self, event: Event) -> None:
        """See the port. Nobody listening is no failure."""
        with self._lock:
            connection = self._opened()
            try:
                self._publish(Producer(connection, auto_declare=False), event)
            except broker_errors(connection) as error:
                self._drop()
                # By its kind only: a driver's text may quote what was sent to it.
                raise NotDelivered(f"broker: {type(error.__cause__ or error).__name__}") from error

    def close(self) -> None:
        """Ends the connection; the next event opens another. Idempotent."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        """Without asking a broker that may be frozen."""
        if self._connection is not None and self._pid == os.getpid():
            self._connection.collect()
        self._connection = None

    def _publish(self, producer: Producer, event: Event) -> None:
        exchange = Exchange(NAME, type="topic", durable=True)
        producer.publish(
            event.to_json(),
            exchange=exchange,
            routing_key=event.verb,
            declare=[exchange],
            serializer="json",
            message_id=str(event.seq),
            retry=False,
        )
        channel: Any = producer.channel
        if hasattr(channel, "get_table"):
            for _, _, queue in channel.get_table(NAME):
                channel.client.ltrim(queue, 0, KEPT_ON_REDIS - 1)

    def _opened(self) -> Connection:
        if self._pid != os.getpid():
            # The parent's socket is not ours to use, nor to close.
            self._pid, self._connection = os.getpid(), None
        if self._connection is None:
            self._connection = quick_connection(self._app)
        return self._connection
