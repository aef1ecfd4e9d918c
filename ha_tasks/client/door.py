"""The broker's door: one connection for each message, every wait on it bounded.

The message is that of Celery's protocol, version 2, so that any worker takes it.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

from kombu import Connection, Consumer, Exchange, Producer
from kombu import Queue as BrokerQueue
from kombu.exceptions import KombuError

from ha_tasks.errors import BrokerUnreachable, UsageError
from ha_tasks.model.broker import BrokerKind, broker_address
from ha_tasks.model.plain import Json
from ha_tasks.model.tls import amqp_options, taken_out
from ha_tasks.names import Queue

T = TypeVar("T")

SEND_WITHIN_S = 0.5
"""For connecting and sending, all URLs of the broker together."""
KEYS_OF_REPRESENTATION = ("service", "kind", "scope", "run", "idempotency_key", "dry_run")
"""What Flower shows of a message; reason and evidence are for the desk alone."""


class BrokerDoor:
    """Holds nothing open between two calls, so it may cross a fork."""

    def __init__(self, broker_url: str) -> None:
        """UsageError when it is no address of a broker; the text does not repeat it."""
        try:
            self._address = broker_address(broker_url)
        except ValueError as error:
            raise UsageError(str(error)) from None
        # Imports the driver: no request shall pay for that.
        self._connection(self._address.urls[0], 1.0).get_transport_cls()

    def send(self, task: str, body: Json) -> None:
        """Hands a message in. BrokerUnreachable: no URL's broker took it."""
        self._through(SEND_WITHIN_S, lambda connection, _: self._publish(connection, task, body, ""))

    def ask(self, task: str, body: Json, timeout_s: float) -> Json:
        """The worker's answer. BrokerUnreachable when there is none in time."""
        return self._through(timeout_s, lambda connection, ends: self._asked(connection, task, body, ends))

    def _through(self, within_s: float, work: Callable[[Connection, float], T]) -> T:
        """What ``work`` answers over the first URL that can be had."""
        each_s = min(SEND_WITHIN_S, within_s) / (2 * len(self._address.urls))
        ends, told = time.monotonic() + within_s, ""
        for url in self._address.urls:
            connection = self._connection(url, each_s)
            try:
                with _closing(connection):
                    return work(connection, ends)
            except _refusals(connection) as error:
                # By its kind only: a driver's text may quote what was sent to it.
                told = type(error.__cause__ or error).__name__
        raise BrokerUnreachable(f"the broker at {self._address.shown} did not take it: {told}")

    def _connection(self, url: str, each_s: float) -> Connection:
        bare, tls = taken_out(url) if self._address.kind is BrokerKind.AMQP else (url, None)
        return Connection(
            bare,
            connect_timeout=each_s,
            heartbeat=0,
            ssl=amqp_options(tls, urlsplit(bare).hostname or "") if tls else False,
            transport_options=self._options(each_s),
        )

    def _options(self, each_s: float) -> Json:
        if self._address.kind is BrokerKind.AMQP:
            return {"read_timeout": each_s, "write_timeout": each_s, "confirm_publish": True}
        options: Json = {"socket_timeout": each_s, "socket_connect_timeout": each_s}
        if self._address.kind is BrokerKind.SENTINEL:
            password = self._address.sentinel_password
            sentinel = {"socket_timeout": each_s, **({"password": password} if password else {})}
            options |= {"master_name": self._address.master_name, "sentinel_kwargs": sentinel}
        return options

    def _asked(self, connection: Connection, task: str, body: Json, ends: float) -> Json:
        answers: list[Json] = []
        name = f"ha.reply.{uuid.uuid4()}"
        channel = connection.channel()
        queue = BrokerQueue(
            name, Exchange(""), routing_key=name, durable=False, exclusive=True, auto_delete=True, expires=60
        )
        with Consumer(
            channel, [queue], callbacks=[lambda found, _: answers.append(found)], accept=["json"], no_ack=True
        ):
            self._publish(connection, task, body, name)
            while not answers and (left := ends - time.monotonic()) > 0:
                try:
                    connection.drain_events(timeout=left)
                except TimeoutError:
                    break
        if not answers:
            raise BrokerUnreachable("no worker has answered; is the queue recovery served?")
        return dict(answers[0]["result"])

    def _publish(self, connection: Connection, task: str, body: Json, reply_to: str) -> None:
        returned: list[str] = []
        amqp = self._address.kind is BrokerKind.AMQP
        routed: dict[str, Any] = {"mandatory": True, "confirm_timeout": SEND_WITHIN_S} if amqp else {}
        producer = Producer(
            connection,
            auto_declare=False,
            on_return=(lambda error, *_: returned.append(type(error).__name__)) if amqp else None,
        )
        message = _message(task, body)
        producer.publish(
            message["body"],
            exchange="",
            routing_key=str(Queue.RECOVERY),
            headers=message["headers"],
            correlation_id=message["headers"]["id"],
            reply_to=reply_to or None,
            serializer="json",
            delivery_mode=2,
            retry=False,
            **routed,
        )
        if returned:
            raise BrokerUnreachable("the broker has no queue recovery yet; start the workers")


def _refusals(connection: Connection) -> tuple[type[BaseException], ...]:
    """Everything that a broker that is away or says no can raise."""
    return (KombuError, OSError, *connection.connection_errors, *connection.channel_errors)


@contextmanager
def _closing(connection: Connection) -> Iterator[None]:
    """Closes without asking: a broker that is frozen would not answer."""
    try:
        yield
    finally:
        connection.collect()


def _message(task: str, body: Json) -> dict[str, Any]:
    """Celery's protocol 2. A request's id follows from its key."""
    key = body.get("idempotency_key")
    asking = task.endswith(".request")
    name = str(uuid.uuid5(uuid.NAMESPACE_URL, f"ha.recovery/{key}") if key and asking else uuid.uuid4())
    shown = {key: body[key] for key in KEYS_OF_REPRESENTATION if key in body}
    headers: dict[str, Any] = {
        "lang": "py",
        "task": str(task),
        "id": name,
        "root_id": name,
        "parent_id": None,
        "group": None,
        "retries": 0,
        "timelimit": [None, None],
        "eta": None,
        "expires": None,
        "argsrepr": "()",
        "kwargsrepr": repr(shown),
        "origin": f"ha_tasks.client@{socket.gethostname()}/{os.getpid()}",
        "ignore_result": False,
        "sent_at": time.time(),
    }
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return {"headers": headers, "body": [[], body, embed]}
