"""The address of the broker as one text: one URL or several, joined by ``;``, and Sentinel's settings.

Only the first URL bears a query: ``sentinel://:secret@h1:26379/0?master_name=ha&sentinel_password=s``.
Everything that connects to the broker reads this text, so that it can be handed on as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import SplitResult, parse_qs, urlencode, urlsplit

MASTER = "master_name"
SENTINEL_PASSWORD = "sentinel_password"  # noqa: S105 - the name of a key
REDIS_PORT = 6379
SENTINEL_PORT = 26379
AMQP_PORT = 5672


class BrokerKind(StrEnum):
    """How it is spoken to."""

    REDIS = "redis"
    SENTINEL = "sentinel"
    AMQP = "amqp"


KINDS = {
    "redis": BrokerKind.REDIS,
    "rediss": BrokerKind.REDIS,
    "sentinel": BrokerKind.SENTINEL,
    "amqp": BrokerKind.AMQP,
    "amqps": BrokerKind.AMQP,
}
"""Scheme -> kind."""
PORTS = {BrokerKind.REDIS: REDIS_PORT, BrokerKind.SENTINEL: SENTINEL_PORT, BrokerKind.AMQP: AMQP_PORT}


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAddress:
    """Where the broker is. ``urls`` may bear passwords, which no repr shows.

    ``master_name``: what Sentinel calls the server; empty without Sentinel. Several URLs are tried in
    order: nodes of one RabbitMQ cluster, a Redis and the one that takes its place, or Sentinels.
    """

    urls: tuple[str, ...] = field(repr=False)
    master_name: str = ""
    sentinel_password: str = field(default="", repr=False)

    @property
    def kind(self) -> BrokerKind:
        """The kind of all of them."""
        return KINDS[urlsplit(self.urls[0]).scheme]

    @property
    def shown(self) -> str:
        """``host:port`` of each, for messages: no user, no password."""
        return ", ".join(f"{host}:{port}" for host, port in self.places)

    @property
    def places(self) -> tuple[tuple[str, int], ...]:
        """(host, port) of each."""
        return tuple(_place(urlsplit(url), PORTS[self.kind]) for url in self.urls)

    def text(self) -> str:
        """The one text. ``parse`` reads it back."""
        settings = {MASTER: self.master_name, SENTINEL_PASSWORD: self.sentinel_password}
        query = urlencode({key: value for key, value in settings.items() if value})
        first = f"{self.urls[0]}?{query}" if query else self.urls[0]
        return ";".join((first, *self.urls[1:]))


def broker_address(text: str) -> BrokerAddress:
    """Reads the text. ValueError, without repeating it, when it is no address of a broker."""
    urls = [part for part in text.split(";") if part]
    _must_fit(urls)
    settings = parse_qs(urlsplit(urls[0]).query)
    return BrokerAddress(
        urls=(_bare(urls[0]), *urls[1:]),
        master_name=settings.get(MASTER, [""])[0],
        sentinel_password=settings.get(SENTINEL_PASSWORD, [""])[0],
    )


def _must_fit(urls: Iterable[str]) -> None:
    schemes = {urlsplit(url).scheme for url in urls}
    if len(schemes) != 1 or not schemes <= KINDS.keys():
        raise ValueError(f"the broker needs URLs of one scheme of {', '.join(KINDS)}")


def _bare(url: str) -> str:
    """Without our two settings; what else the query says (TLS) stays."""
    parts = urlsplit(url)
    others = {
        key: values
        for key, values in parse_qs(parts.query, keep_blank_values=True).items()
        if key not in (MASTER, SENTINEL_PASSWORD)
    }
    head = url.partition("?")[0]
    return f"{head}?{urlencode(others, doseq=True)}" if others else head


def _place(parts: SplitResult, port: int) -> tuple[str, int]:
    return parts.hostname or "127.0.0.1", parts.port or port
