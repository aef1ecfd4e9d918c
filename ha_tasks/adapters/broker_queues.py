r"""Queues on Redis or Valkey, read as Kombu's transport lays them out: one pipeline, no worker asked.

A queue is one list per priority step (``name``, ``name\x06\x163``, ``...6``, ``...9``): the length of
``name`` alone misses the others. Messages go in at the left and out at the right, so the last element
is next in line. What a worker has taken stands in a hash, one per class of workers, since each class
has its own ``unacked_key``; an entry is ``[message, exchange, routing key]``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import redis

from ha_tasks.adapters.redis_links import RedisLinks
from ha_tasks.model.broker import BrokerKind, broker_address
from ha_tasks.ports.queues import Backlog

if TYPE_CHECKING:
    from ha_tasks.adapters.amqp_queues import AmqpQueues

UNACKED_KEYS = ("unacked", "unacked.fast", "unacked.slow")
PRIORITY_STEPS = (0, 3, 6, 9)
SEPARATOR = "\x06\x16"
SAMPLE = 200
"""Taken messages that are read per hash, to tell whose queue they are from; the rest is scaled up."""


def queues_at(url: str) -> RedisQueues | AmqpQueues:
    """What looks at the queues of the broker at ``url`` (model/broker.py). Connects to nothing yet."""
    address = broker_address(url)
    if address.kind is BrokerKind.AMQP:
        from ha_tasks.adapters.amqp_queues import AmqpQueues

        return AmqpQueues(address)
    return RedisQueues(url)


class RedisQueues:
    """Implements ``ports.queues.Queues``. ``url`` may bear a password, which no message repeats.

    Thread-safe; connects when it is first asked, and again after the broker came back.
    """

    def __init__(
        self, url: str, *, password: str | None = None, unacked_keys: Sequence[str] = UNACKED_KEYS
    ) -> None:
        self._links = RedisLinks(broker_address(url), password)
        self._unacked_keys = tuple(unacked_keys)

    def __repr__(self) -> str:
        return f"RedisQueues({self._links.shown})"

    def backlogs(self, queues: Sequence[str]) -> Mapping[str, Backlog]:
        """See the port."""
        answers = self._links.ask(lambda client: self._ask(client, queues))
        heads = len(queues) * len(PRIORITY_STEPS)
        lengths, tails, taken = answers[:heads], answers[heads : 2 * heads], answers[2 * heads :]
        unacked = _unacked(zip(taken[::2], taken[1::2], strict=True))
        steps = len(PRIORITY_STEPS)
        return {
            queue: Backlog(
                waiting=sum(lengths[i * steps : (i + 1) * steps]),
                unacked=unacked[queue],
                oldest_sent_at=_oldest(tails[i * steps : (i + 1) * steps]),
            )
            for i, queue in enumerate(queues)
        }

    def close(self) -> None:
        """Closes its connections. Idempotent."""
        self._links.close()

    def _ask(self, client: redis.Redis, queues: Sequence[str]) -> list[Any]:
        """Lengths and last elements of every list, then size and a sample of every hash."""
        keys = [_key(queue, step) for queue in queues for step in PRIORITY_STEPS]
        with client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.llen(key)
            for key in keys:
                pipe.lindex(key, -1)
            for key in self._unacked_keys:
                pipe.hlen(key)
                pipe.hscan(key, 0, count=SAMPLE)
            answers: list[Any] = pipe.execute()
        return answers


def _key(queue: str, step: int) -> str:
    return f"{queue}{SEPARATOR}{step}" if step else queue


def _oldest(tails: Iterable[bytes | None]) -> datetime | None:
    stamps = [stamp for tail in tails if tail is not None and (stamp := _sent_at(tail)) is not None]
    return min(stamps, default=None)


def _sent_at(raw: bytes) -> datetime | None:
    """The producer's stamp (header ``sent_at``, epoch seconds); None when it is missing or no time."""
    try:
        return datetime.fromtimestamp(float(json.loads(raw)["headers"]["sent_at"]), tz=UTC)
    except (ValueError, TypeError, LookupError, OverflowError, OSError):
        # Any service may write to the list: what is no message of ours has no known age.
        return None


def _unacked(hashes: Iterable[tuple[int, tuple[int, Mapping[bytes, bytes]]]]) -> Counter[str]:
    """Taken messages per queue. Of more than a sample's worth each entry stands for several."""
    total: Counter[str] = Counter()
    for size, (_, entries) in hashes:
        seen = Counter(_routing_key(entry) for entry in entries.values())
        scale = size / len(entries) if entries else 0.0
        total.update({queue: round(count * scale) for queue, count in seen.items()})
    return total


def _routing_key(raw: bytes) -> str:
    try:
        return str(json.loads(raw)[2])
    except (ValueError, TypeError, LookupError):
        return ""
