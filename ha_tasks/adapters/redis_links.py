"""Ways to a Redis or Valkey that is a broker: one URL, several, or what Sentinel names at the moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from ha_tasks.adapters.tls_errors import about_tls
from ha_tasks.errors import BrokerUnreachable
from ha_tasks.model.broker import BrokerAddress, BrokerKind

WAIT_S = 0.3
"""Three waits at most (connect, authenticate, read) keep the promise of a second."""

T = TypeVar("T")


class RedisLinks:
    """Asks the first that answers. Thread-safe; connects when it is first asked, and again after a break."""

    def __init__(self, address: BrokerAddress, password: str | None = None) -> None:
        self._shown = address.shown
        self._clients = _clients(address, password)

    @property
    def shown(self) -> str:
        """Where it is, without any secret."""
        return self._shown

    def ask(self, question: Callable[[redis.Redis], T]) -> T:
        """The answer to a question that changes nothing. BrokerUnreachable, within a second, when none does.

        The text of the driver may quote what was sent to it, so only the kind of error is told.
        """
        told = "no URL"
        for client in self._clients:
            try:
                return question(client)
            except redis.RedisError as error:
                told = _told(error)
        raise BrokerUnreachable(f"broker {self._shown}: {told}")

    def close(self) -> None:
        """Closes its connections. Idempotent."""
        for client in self._clients:
            client.close()


def _clients(address: BrokerAddress, password: str | None) -> tuple[redis.Redis, ...]:
    each_s = WAIT_S / len(address.urls)
    options: dict[str, Any] = {
        # RESP2 needs no greeting: a round trip fewer on each new connection.
        "protocol": 2,
        "socket_timeout": each_s,
        "socket_connect_timeout": each_s,
        # A kept connection that the broker has cut says so once; a silent broker is not asked again.
        "retry": Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
    }
    if address.kind is BrokerKind.SENTINEL:
        return (_named_by_sentinel(address, password, options),)
    login = {} if password is None else {"password": password}
    return tuple(redis.Redis.from_url(url, **options, **login) for url in address.urls)


def _named_by_sentinel(address: BrokerAddress, password: str | None, options: dict[str, Any]) -> redis.Redis:
    parts = urlsplit(address.urls[0])
    asked = options | {"retry": Retry(NoBackoff(), 0)}
    if address.sentinel_password:
        asked["password"] = address.sentinel_password
    sentinel: Any = Sentinel(list(address.places), sentinel_kwargs=asked)  # type: ignore[no-untyped-call] # redis-py annotates it in part
    named: redis.Redis = sentinel.master_for(
        address.master_name,
        db=int(parts.path.strip("/") or 0),
        username=unquote(parts.username) if parts.username else None,
        password=password or (unquote(parts.password) if parts.password else None),
        **options,
    )
    return named


def _told(error: redis.RedisError) -> str:
    if isinstance(error, redis.exceptions.AuthenticationError):
        return "it refused the password"
    if isinstance(error, redis.exceptions.TimeoutError):
        return "no answer in time"
    if isinstance(error, MasterNotFoundError):
        return "no Sentinel names a master"
    return about_tls(error, "broker") or f"it did not answer ({type(error).__name__})"
