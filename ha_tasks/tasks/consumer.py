"""The consumer of a worker: what no worker can take is put aside with a record, and the next one is taken.

Celery itself logs such a message and drops it, or ends over it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from celery.worker.consumer import Consumer
from kombu.exceptions import ContentDisallowed

from ha_tasks import names
from ha_tasks.names import PoisonReason
from ha_tasks.tasks import quarantine
from ha_tasks.tasks.broker import dead_queue
from ha_tasks.tasks.quarantine import HUGE, TALLY, Poison, poison


class QuarantiningConsumer(Consumer):
    """Each way in which Celery drops a message leads into the quarantine."""

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], None]:
        """As Celery's; what it trips over is put aside. Errors of the connection go on.

        Asked for with each new connection, so this is where the dead-letter queue is declared: RabbitMQ
        would drop what it has no place for.
        """
        connection: Any = self.connection
        if connection.transport.driver_type == "amqp":
            dead_queue()(connection.default_channel).declare()
        handle = super().create_task_handler(*args, **options)

        def guarded(message: Any) -> None:
            if len(message.body or "") > HUGE:
                self._put_aside(message, PoisonReason.HUGE)
                return
            try:
                handle(message)
            except (LookupError, AttributeError, TypeError, ValueError) as error:
                # Headers that are not those of a task, in one of the many ways in which they can be wrong.
                self._put_aside(message, PoisonReason.NOT_A_TASK, error)

        return guarded

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Its body is not of the type that it says, or of one that is not accepted."""
        closed = isinstance(exc, ContentDisallowed)
        self._put_aside(message, PoisonReason.CONTENT_TYPE if closed else PoisonReason.NOT_JSON, exc)

    def on_unknown_message(self, body: Any, message: Any) -> None:  # noqa: ARG002 - Celery's signature
        """It says nowhere which task it is for."""
        self._put_aside(message, PoisonReason.NOT_A_TASK)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ARG002 - as above
        """A task of that name is not here: a mistake, or a worker of an older version."""
        self._put_aside(message, PoisonReason.UNKNOWN_TASK)

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ARG002 - as above
        """Its content type is not accepted, or it lacks what every task has."""
        closed = isinstance(exc, ContentDisallowed)
        self._put_aside(message, PoisonReason.CONTENT_TYPE if closed else PoisonReason.NOT_A_TASK, exc)

    def _put_aside(self, message: Any, reason: PoisonReason, error: Exception | None = None) -> None:
        """The record is written before the message is taken off: rather twice than never."""
        if message.acknowledged:
            return
        found = poison(
            reason,
            str((message.delivery_info or {}).get("routing_key", "")),
            message.body or "",
            headers=message.headers,
            detail=type(error).__name__ if error else str(message.content_type or ""),
        )
        if hasattr(message.channel, "put_aside"):
            message.channel.put_aside(found)
        else:
            self._publish(found)
        message.ack()

    def _publish(self, found: Poison) -> None:
        """On RabbitMQ, over a connection of its own: this one is in the middle of a delivery."""
        with self.app.connection_for_write() as connection:
            connection.Producer().publish(
                json.loads(found.record(quarantine.now())),
                exchange=names.DEAD_QUEUE,
                routing_key=names.DEAD_QUEUE,
                declare=[dead_queue()],
                retry=False,
            )
        TALLY.add(found)
