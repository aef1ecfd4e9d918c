"""Kombu's Redis transport, which survives what others write into its lists.

Kombu ends the worker over an element that is no JSON, and delivers a message whose worker died for
ever. Here both are put aside in the list ``ha.dead``: with the place of the first in line gone, the
next message is taken.
"""

from __future__ import annotations

import base64
from queue import Empty
from typing import Any

from kombu.transport import redis as kombu_redis
from kombu.utils.json import loads
from redis.exceptions import ConnectionError as ConnectionLost

from ha_tasks.names import DEAD_QUEUE, DELIVERY_LIMIT, PoisonReason
from ha_tasks.tasks.quarantine import HUGE, KEPT, TALLY, Poison, now, poison

DIED = "ha_deliveries"
"""Header: how often the message came back from a worker that did not finish it."""


class Quarantining:
    """The channel's part: to be mixed into Kombu's channels."""

    def _brpop_read(self, **options: Any) -> bool:
        """As Kombu's, but what cannot be delivered is put aside. Raises Empty when that was so."""
        channel: Any = self
        try:
            try:
                popped = channel.client.parse_response(channel.client.connection, "BRPOP", **options)
            except channel.connection_errors:
                channel.client.connection.disconnect()
                raise
            if not popped:
                raise Empty
            key, raw = popped
            queue = key.decode().rsplit(channel.sep, 1)[0]
            channel._queue_cycle.rotate(queue)
            payload = self._read(queue, raw)
            if payload is None:
                raise Empty
            channel.connection._deliver(payload, queue)
            return True
        finally:
            channel._in_poll = None
            channel._flush_brpop_reauth()

    def _connparams(self, asynchronous: bool = False) -> Any:
        """As Kombu's; of a channel that is closed it says that the connection is lost, which it is.

        A task that ends after the broker went is acknowledged on the old channel: Kombu would end the
        worker with an AttributeError, where Celery knows what to do about a lost connection.
        """
        channel: Any = self
        if channel.connection is None or channel.connection.client is None:
            raise ConnectionLost("the channel was closed with its connection")
        params: Any = super()
        return params._connparams(asynchronous=asynchronous)

    def _get(self, queue: str) -> Any:
        """As Kombu's: the next message, or Empty."""
        channel: Any = self
        with channel.conn_or_acquire() as client:
            for step in channel.priority_steps:
                while (raw := client.rpop(channel._q_for_pri(queue, step))) is not None:
                    payload = self._read(queue, raw)
                    if payload is not None:
                        return payload
        raise Empty

    def _read(self, queue: str, raw: bytes) -> Any:
        """The payload as Kombu needs it; None when it was put aside."""
        found = judged(queue, raw)
        if isinstance(found, Poison):
            self.put_aside(found)
            return None
        return found

    def put_aside(self, found: Poison) -> None:
        """Into ``ha.dead``, which is cut to the newest."""
        channel: Any = self
        with channel.conn_or_acquire() as client, client.pipeline() as pipe:
            _append(pipe, found)
            pipe.execute()
        TALLY.add(found)

    def _do_restore_message(
        self, payload: Any, exchange: str, routing_key: str, pipe: Any, leftmost: bool = False
    ) -> None:
        """A message comes back from a worker that did not finish it: counted, and in the end put aside."""
        headers = payload["headers"]
        headers[DIED] = died = int(headers.get(DIED) or 0) + 1
        if died >= DELIVERY_LIMIT:
            detail = f"{died} workers did not finish it"
            reason, body = PoisonReason.DELIVERY_LIMIT, payload.get("body", "")
            found = poison(reason, routing_key, body, headers=headers, detail=detail)
            # In the transaction that takes it out of the hash of what is being worked on.
            _append(pipe, found)
            TALLY.add(found)
            return
        restore: Any = super()
        restore._do_restore_message(payload, exchange, routing_key, pipe, leftmost)


def _append(pipe: Any, found: Poison) -> None:
    pipe.lpush(DEAD_QUEUE, found.record(now()))
    pipe.ltrim(DEAD_QUEUE, 0, KEPT - 1)


class QoS(kombu_redis.QoS):
    """What a worker has taken. Kombu's sweep, and with it the worker, ends over an entry of somebody else."""

    def restore_unacked(self, client: Any = None) -> None:
        """As Kombu's, unless the connection is closed already: then what was taken comes back by its timeout.

        Kombu would end the worker with an AttributeError here, whenever it loses its broker at work.
        """
        own: Any = self
        if own.channel.connection.client is None:
            own._delivered.clear()
            return
        super().restore_unacked(client)

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        """As Kombu's, but an entry that cannot be read is put aside."""
        own: Any = self
        try:
            super().restore_by_tag(tag, client=client, leftmost=leftmost)
        except (ValueError, TypeError, LookupError) as error:
            with own.channel.conn_or_acquire(client) as asked:
                raw = asked.hget(own.unacked_key, tag) or b""
            detail = type(error).__name__
            own.channel.put_aside(poison(PoisonReason.NOT_JSON, own.unacked_key, raw, detail=detail))
            own._remove_from_indices(tag).execute()


def judged(queue: str, raw: bytes) -> Any:
    """The payload of an element of a list, or what is wrong with it. Pure."""
    if len(raw) > HUGE:
        return poison(PoisonReason.HUGE, queue, raw[:4096], size=len(raw))
    try:
        payload = loads(raw.decode())
    except (ValueError, RecursionError) as error:
        return poison(PoisonReason.NOT_JSON, queue, raw, detail=type(error).__name__)
    wrong = _misshapen(payload)
    return poison(PoisonReason.NOT_A_TASK, queue, raw, detail=wrong) if wrong else payload


def _misshapen(payload: Any) -> str:
    """What Kombu needs and the payload lacks; empty: nothing."""
    if not isinstance(payload, dict):
        return "no object"
    properties, headers = payload.get("properties"), payload.get("headers")
    if not isinstance(properties, dict) or not isinstance(headers, dict):
        return "no headers or properties"
    if not isinstance(payload.get("body"), str) or not isinstance(payload.get("content-type"), str):
        return "no body or content type"
    if not isinstance(properties.get("delivery_tag"), str) or not _is_place(properties.get("delivery_info")):
        return "no delivery tag, exchange or routing key"
    return _undecodable(payload["body"], properties.get("body_encoding"))


def _is_place(told: Any) -> bool:
    return isinstance(told, dict) and all(isinstance(told.get(k), str) for k in ("exchange", "routing_key"))


def _undecodable(body: str, encoding: Any) -> str:
    try:
        if encoding == "base64":
            base64.b64decode(body).decode()
    except ValueError:
        return "its body is not what it says"
    return "" if encoding in ("base64", None) else "its body is encoded in an unknown way"


class Channel(Quarantining, kombu_redis.Channel):  # type: ignore[misc] # Kombu's stubs lack _get
    """On one Redis or Valkey."""

    QoS = QoS


class SentinelChannel(Quarantining, kombu_redis.SentinelChannel):  # type: ignore[misc] # as above
    """On the one that Sentinel names."""

    QoS = QoS


class Transport(kombu_redis.Transport):
    """For ``redis`` and ``rediss``."""

    Channel = Channel


class SentinelTransport(kombu_redis.SentinelTransport):
    """For ``sentinel``."""

    Channel = SentinelChannel
