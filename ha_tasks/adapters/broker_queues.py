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
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ha_tasks.errors import BrokerUnreachable
from ha_tasks.ports.queues import Backlog

UNACKED_KEYS = ("unacked", "unacked.fast", "unacked.slow")
PRIORITY_STEPS = (0, 3, 6, 9)
SEPARATOR = "\x06\x16"
SAMPLE = 200
"""Taken messages that are read per hash, to tell whose queue they are from; the rest is scaled up."""
SOCKET_TIMEOUT_S = 0.3
"""Three waits at most (connect, authenticate, read) keep the promise of a second."""


def queues_at(url: str) -> RedisQueues | UnreadQueues:
    """What looks at the queues of the broker at ``url``. Connects to nothing yet."""
    return UnreadQueues() if urlsplit(url).scheme.startswith("amqp") else RedisQueues(url)


class UnreadQueues:
    """Queues of an AMQP broker, which serves its own metrics; so there is nothing to read here."""

    def backlogs(self, queues: Sequence[str]) -> Mapping[str, Backlog]:  # noqa: ARG002 - the port's verb
        """Raises BrokerUnreachable: that nothing is known must not look like empty queues."""
        raise BrokerUnreachable("queues of an AMQP broker are not read here; scrape the broker itself")

    def close(self) -> None:
        """Nothing is open."""


class RedisQueues:
    """Implements ``ports.queues.Queues``. ``url`` may bear a password, which no message repeats.

    Thread-safe; connects when it is first asked, and again after the broker came back.
    """

    def __init__(
        self, url: str, *, password: str | None = None, unacked_keys: Sequence[str] = UNACKED_KEYS
    ) -> None:
        options: dict[str, Any] = {} if password is None else {"password": password}
        parts = urlsplit(url)
        self._shown = f"{parts.hostname or 'localhost'}:{parts.port or 6379}{parts.path}"
        self._unacked_keys = tuple(unacked_keys)
        self._client = redis.Redis.from_url(
            url,
            # RESP2 needs no greeting: a round trip fewer on each new connection.
            protocol=2,
            socket_timeout=SOCKET_TIMEOUT_S,
            socket_connect_timeout=SOCKET_TIMEOUT_S,
            # A kept connection that the broker has cut says so once; a silent broker is not asked again.
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
            **options,
        )

    def __repr__(self) -> str:
        return f"RedisQueues({self._shown})"

    def backlogs(self, queues: Sequence[str]) -> Mapping[str, Backlog]:
        """See the port."""
        try:
            answers = self._ask(queues)
        except redis.RedisError as error:
            # The text of the driver may quote what was sent to it, so only the kind of error is told.
            raise BrokerUnreachable(f"broker {self._shown}: {_told(error)}") from None
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
        self._client.close()

    def _ask(self, queues: Sequence[str]) -> list[Any]:
        """Lengths and last elements of every list, then size and a sample of every hash."""
        keys = [_key(queue, step) for queue in queues for step in PRIORITY_STEPS]
        with self._client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.llen(key)
            for key in keys:
                pipe.lindex(key, -1)
            for key in self._unacked_keys:
                pipe.hlen(key)
                pipe.hscan(key, 0, count=SAMPLE)
            return pipe.execute()


def _key(queue: str, step: int) -> str:
    return f"{queue}{SEPARATOR}{step}" if step else queue


def _told(error: redis.RedisError) -> str:
    if isinstance(error, redis.exceptions.AuthenticationError):
        return "it refused the password"
    if isinstance(error, redis.exceptions.TimeoutError):
        return "no answer in time"
    return f"it did not answer ({type(error).__name__})"


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
