"""Queues on RabbitMQ, asked by AMQP itself: no plugin is needed, and nothing is taken out to be looked at.

RabbitMQ says how many messages are ready. How many a worker has taken, and how old the first is, AMQP
cannot be asked without taking it, which a quorum queue counts as a delivery: those stay unknown.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from urllib.parse import unquote, urlsplit

import amqp

from ha_tasks.adapters.tls_errors import about_tls
from ha_tasks.errors import BrokerUnreachable
from ha_tasks.model.broker import BrokerAddress
from ha_tasks.model.tls import amqp_options, taken_out
from ha_tasks.ports.queues import Backlog

LOOK_BUDGET_S = 0.8
"""All URLs together; the promise is a second."""

# Its heartbeats and closings are told by what this file raises.
logging.getLogger("amqp").setLevel(logging.CRITICAL)


class AmqpLink:
    """One connection that is kept, and made again when it broke. Used by one thread at a time."""

    def __init__(self, address: BrokerAddress) -> None:
        self._address = address
        self._each_s = LOOK_BUDGET_S / (2 * len(address.urls))
        self._connection: amqp.Connection | None = None

    def channel(self) -> amqp.Channel:
        """A new channel. Raises BrokerUnreachable when no URL answers."""
        try:
            if self._connection is not None and self._connection.connected:
                return self._connection.channel()
        except (amqp.exceptions.AMQPError, OSError):
            self.close()
        self._connection = self._connected()
        return self._connection.channel()

    def broken(self, error: Exception) -> BrokerUnreachable:
        """The error for it; the connection is not used again."""
        self.close()
        return BrokerUnreachable(f"broker {self._address.shown}: {_told(error)}")

    def close(self) -> None:
        """Without asking the broker, which may say nothing. Idempotent."""
        kept, self._connection = self._connection, None
        if kept is not None:
            kept.collect()

    def _connected(self) -> amqp.Connection:
        error: Exception = OSError("no URL")
        for url in self._address.urls:
            connection = connection_to(url, self._each_s)
            try:
                connection.connect()
            except (amqp.exceptions.AMQPError, OSError) as failed:
                # What it sent may bear the password, so only the kind of error is kept.
                error = failed
                connection.collect()
            else:
                return connection
        raise BrokerUnreachable(f"broker {self._address.shown}: {_told(error)}") from None


def connection_to(url: str, timeout_s: float) -> amqp.Connection:
    """Not connected yet. Each wait is bounded by ``timeout_s``."""
    bare, tls = taken_out(url)
    parts = urlsplit(bare)
    secure = parts.scheme == "amqps"
    port = parts.port or (5671 if secure else 5672)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return amqp.Connection(
        host=f"{host}:{port}",
        userid=unquote(parts.username or "guest"),
        password=unquote(parts.password or "guest"),
        virtual_host=unquote(parts.path[1:]) or "/",
        ssl=amqp_options(tls, parts.hostname or "") if tls else False,
        connect_timeout=timeout_s,
        read_timeout=timeout_s,
        write_timeout=timeout_s,
    )


class AmqpQueues:
    """Implements ``ports.queues.Queues``. Thread-safe; connects when it is first asked."""

    def __init__(self, address: BrokerAddress) -> None:
        self._address = address
        self._link = AmqpLink(address)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"AmqpQueues({self._address.shown})"

    def backlogs(self, queues: Sequence[str]) -> Mapping[str, Backlog]:
        """See the port. ``unacked`` and the age are unknown."""
        with self._lock:
            try:
                return {name: Backlog(waiting=self._ready(name), unacked=None) for name in queues}
            except (amqp.exceptions.AMQPError, OSError) as error:
                raise self._link.broken(error) from None

    def close(self) -> None:
        """Closes its connection. Idempotent."""
        with self._lock:
            self._link.close()

    def _ready(self, name: str) -> int:
        """A passive declaration only asks; the broker closes the channel when there is no such queue."""
        channel = self._link.channel()
        try:
            _, ready, _ = channel.queue_declare(name, passive=True) or (name, 0, 0)
            return int(ready)
        except amqp.exceptions.NotFound:
            return 0
        finally:
            with suppress(amqp.exceptions.AMQPError, OSError):
                channel.close()


def _told(error: Exception) -> str:
    if isinstance(error, amqp.exceptions.AccessRefused):
        return "it refused the user or the password"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return about_tls(error, "broker") or f"it did not answer ({type(error).__name__})"
