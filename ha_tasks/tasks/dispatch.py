"""Sending through Celery, for ports/dispatch.py."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from typing import Any

from celery import Celery
from celery.exceptions import QueueNotFound
from kombu import Connection, Producer
from kombu.exceptions import KombuError, OperationalError

from ha_tasks.errors import BrokerUnreachable, Unroutable
from ha_tasks.model.broker import broker_address
from ha_tasks.model.message import Message
from ha_tasks.tasks import broker

log = logging.getLogger(__name__)

PAUSE_S = 1.0
"""After a failure nobody tries again for so long: what waits is in the outbox, and is swept every second."""
STALE_S = 0.1
"""A kept connection that fails so quickly was cut earlier: that says nothing about the broker now."""
EXPIRES_S = 10.0
"""A message nobody took for so long is stale: the sweeper has sent newer ones for the same step since.

Without an end, workers that are busy for a while would find one message for each 1.5 s of it.
"""


class CeleryDispatch:
    """Does not wait: what the broker does not take at once stays in the outbox.

    Thread-safe, and safe in a forked child: each sender holds a connection of its own for the time of a
    send, and none is used in another process than the one that made it.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._senders = Senders(app)
        self._quiet = Pause()
        self._unknown: set[str] = set()

    def send(self, message: Message, **options: Any) -> None:
        """Idempotent by what the journal knows. Raises BrokerUnreachable within a second.

        Unroutable when there is no such queue: the message stays in the outbox then, too. ``options``: of
        ``send_task``, in place of our own.
        """
        self._quiet.admit()
        try:
            self._send(message, options)
        except QueueNotFound:
            self._tell_unknown(message.queue)
            raise Unroutable(f"no queue {message.queue} for {message.task}") from None
        except (OperationalError, KombuError, OSError) as error:
            self._quiet.begin(type(error).__name__)
            raise BrokerUnreachable(f"the broker did not take {message.task}: {_told(error)}") from error
        self._quiet.end()

    def close(self) -> None:
        """Closes the connections that are free. It may be used again."""
        self._senders.close()

    def _send(self, message: Message, options: dict[str, Any]) -> None:
        """A broker that was restarted has cut what was kept: then once more, over a new connection."""
        began = time.monotonic()
        sender = self._senders.take()
        try:
            self._publish(sender, message, options)
        except (OperationalError, KombuError, OSError):
            if not sender.used or time.monotonic() - began > STALE_S:
                raise
            self._publish(self._senders.take(), message, options)

    def _publish(self, sender: Sender, message: Message, options: dict[str, Any]) -> None:
        try:
            self._app.send_task(
                message.task,
                kwargs=message.kwargs,
                queue=message.queue,
                retry=False,
                ignore_result=True,
                producer=sender.producer,
                **{"expires": EXPIRES_S, **sender.options, **options},
            )
            sender.must_be_routed(message)
        except QueueNotFound:
            self._senders.give(sender)
            raise
        except BaseException:
            self._senders.discard(sender)
            raise
        self._senders.give(sender)

    def _tell_unknown(self, name: str) -> None:
        """Once for each name: the sweeper asks every second."""
        if name not in self._unknown:
            self._unknown.add(name)
            log.error("no queue %s is known here: what is for it stays in the outbox", name)


class Pause:
    """Remembers for a moment that the broker is away, so that only one in a second finds out again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until = 0.0
        self._why = ""

    def admit(self) -> None:
        """Raises BrokerUnreachable during the pause. The first after it is let through, the others wait."""
        if not self._why:
            return
        with self._lock:
            moment = time.monotonic()
            if self._why and moment < self._until:
                raise BrokerUnreachable(f"the broker did not answer a moment ago ({self._why})")
            self._until = moment + PAUSE_S

    def begin(self, why: str) -> None:
        """From now on."""
        with self._lock:
            self._why, self._until = why, time.monotonic() + PAUSE_S

    def end(self) -> None:
        """The broker takes messages."""
        self._why = ""


class Sender:
    """A producer on a connection of its own."""

    def __init__(self, connection: Connection, options: dict[str, Any]) -> None:
        self.connection = connection
        self.options = options
        self.used = False
        self._returned: list[str] = []
        gives_back = self._on_return if options.get("mandatory") else None
        self.producer = Producer(connection, on_return=gives_back, auto_declare=False)

    def must_be_routed(self, message: Message) -> None:
        """Raises Unroutable when RabbitMQ gave the last message back: somebody has deleted the queue."""
        if self._returned:
            raise Unroutable(f"the broker has no queue {message.queue} any more: {self._returned.pop()}")

    def _on_return(self, error: Exception, *_: object) -> None:
        self._returned.append(type(error).__name__)


class Senders:
    """Those that are free, newest first. After a failure all go: they lead to the same broker."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._pid = os.getpid()
        self._free: deque[Sender] = deque()
        self._failed = 0

    def take(self) -> Sender:
        """A free one, or a new one, which does not connect yet."""
        if self._pid != os.getpid():
            # The parent's sockets are not ours to use, nor to close.
            self._pid, self._free = os.getpid(), deque()
        try:
            return self._free.pop()
        except IndexError:
            return self._made()

    def give(self, sender: Sender) -> None:
        """It may be used again."""
        sender.used = True
        self._free.append(sender)

    def discard(self, sender: Sender) -> None:
        """It failed, and the next one begins with the next URL. Closes without asking the broker."""
        self._failed += 1
        sender.connection.collect()
        self.close()

    def close(self) -> None:
        """All that are free, without asking the broker, which may say nothing."""
        while self._free:
            self._free.pop().connection.collect()

    def _made(self) -> Sender:
        address = broker_address(self._app.conf.broker_url)
        turn = self._failed % len(address.urls)
        connection = self._app.connection_for_write(
            url=";".join(address.urls[turn:] + address.urls[:turn]),
            # Nobody would send its heartbeats while it is free.
            heartbeat=0,
            connect_timeout=broker.connect_timeout_s(address),
            transport_options=broker.sending(address),
        )
        return Sender(connection, broker.publishing(address))


def _told(error: Exception) -> str:
    """The kind of error: a driver's text may quote what was sent to it."""
    cause = error.__cause__ or error
    return type(cause).__name__
