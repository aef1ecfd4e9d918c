"""What was put aside in ``ha.dead``: our records, and on RabbitMQ also messages that it has moved there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import amqp
import redis

from ha_tasks.adapters.amqp_queues import AmqpLink
from ha_tasks.adapters.redis_links import RedisLinks
from ha_tasks.model.broker import BrokerAddress, BrokerKind, broker_address
from ha_tasks.names import DEAD_QUEUE
from ha_tasks.ports.queues import DeadLetter

LOOKED_AT = 1000
"""RabbitMQ hands messages out oldest first, so to see the newest all are looked at: so many are kept."""
BODY_SHOWN = 2048


def dead_letters_at(url: str) -> RedisDeadLetters | AmqpDeadLetters:
    """What looks at the dead letters of the broker at ``url`` (model/broker.py). Connects to nothing yet."""
    address = broker_address(url)
    return AmqpDeadLetters(address) if address.kind is BrokerKind.AMQP else RedisDeadLetters(address)


class RedisDeadLetters:
    """Implements ``ports.queues.DeadLetters`` on the list that the transport writes."""

    def __init__(self, address: BrokerAddress) -> None:
        self._links = RedisLinks(address)

    def newest(self, limit: int) -> tuple[int, Sequence[DeadLetter]]:
        """See the port."""
        count, records = self._links.ask(lambda client: _list_of(client, limit))
        return count, [recorded(raw) for raw in records]

    def close(self) -> None:
        """Closes its connections. Idempotent."""
        self._links.close()


class AmqpDeadLetters:
    """Implements ``ports.queues.DeadLetters``: takes messages without acknowledging, so all go back."""

    def __init__(self, address: BrokerAddress) -> None:
        self._link = AmqpLink(address)

    def newest(self, limit: int) -> tuple[int, Sequence[DeadLetter]]:
        """See the port."""
        try:
            messages = self._all()
        except (amqp.exceptions.AMQPError, OSError) as error:
            raise self._link.broken(error) from None
        # What is put back while somebody else looks comes behind what is new: their place says nothing.
        letters = sorted(map(from_amqp, reversed(messages)), key=lambda letter: letter.at, reverse=True)
        return len(messages), letters[:limit]

    def _all(self) -> list[Any]:
        channel = self._link.channel()
        messages: list[Any] = []
        try:
            while len(messages) < LOOKED_AT and (message := channel.basic_get(DEAD_QUEUE)) is not None:
                messages.append(message)
        except amqp.exceptions.NotFound:
            return []
        finally:
            with suppress(amqp.exceptions.AMQPError, OSError):
                channel.close()
        return messages

    def close(self) -> None:
        """Closes its connection. Idempotent."""
        self._link.close()


def _list_of(client: redis.Redis, limit: int) -> tuple[int, list[bytes]]:
    with client.pipeline(transaction=False) as pipe:
        pipe.llen(DEAD_QUEUE)
        pipe.lrange(DEAD_QUEUE, 0, limit - 1)
        count, records = pipe.execute()
    return count, records


def recorded(raw: bytes | str) -> DeadLetter:
    """A record of ours; what is none is shown as it stands. Pure."""
    try:
        record = json.loads(raw)
        return DeadLetter(
            reason=str(record["reason"]),
            at=str(record["at"]),
            queue=str(record["queue"]),
            task=str(record["task"]),
            id=str(record["id"]),
            size=int(record["size"]),
            detail=str(record["detail"]),
            body=str(record["body"]),
        )
    except (ValueError, TypeError, LookupError):
        return DeadLetter(
            reason="unreadable", at="", queue=DEAD_QUEUE, task="", id="", size=len(raw), body=_text(raw)
        )


def from_amqp(message: Any) -> DeadLetter:  # noqa: ANN401 - amqp's message, or what has its attributes
    """A message of ``ha.dead``: moved there by RabbitMQ when it bears ``x-death``, else a record. Pure."""
    headers = message.headers
    deaths = headers.get("x-death") or []
    if not deaths:
        return recorded(message.body)
    return DeadLetter(
        reason=str(deaths[0].get("reason", "")),
        at=_moment(deaths[0].get("time")),
        queue=str(deaths[0].get("queue", "")),
        task=str(headers.get("task", "")),
        id=str(headers.get("id", "")),
        size=len(message.body),
        body=_text(message.body),
    )


def _moment(value: object) -> str:
    return value.replace(tzinfo=UTC).isoformat(timespec="milliseconds") if isinstance(value, datetime) else ""


def _text(raw: bytes | str) -> str:
    cut = raw[:BODY_SHOWN]
    return cut if isinstance(cut, str) else cut.decode("utf-8", "backslashreplace")
