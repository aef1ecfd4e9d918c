"""One GET over a connection of its own, bounded as a whole by one deadline."""

from __future__ import annotations

import http.client
from dataclasses import dataclass

from ha_tasks.adapters.deadline import Deadline
from ha_tasks.adapters.wire import Wire

MOST_BODY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """``body`` is complete, or the first MiB of a larger one."""

    status: int
    body: bytes


class NotHttp(OSError):
    """Something answered, and it was not (complete) HTTP."""


def get(address: str, path: str, deadline: Deadline, *, host: str | None = None) -> Answer:
    """GETs ``path`` from ``host:port``. Raises OSError: refused, TimeoutError, reset, NotHttp."""
    with Wire(address, deadline) as wire:
        return get_over(wire, path, host or address)


def get_over(wire: Wire, path: str, host: str) -> Answer:
    """As ``get``, over a wire that is open; ``host`` as its header says it."""
    wire.send(_request(path, host))
    try:
        return _answer(wire)
    except http.client.HTTPException as error:
        raise NotHttp(f"not HTTP: {type(error).__name__}") from error


def _request(path: str, host: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: ha_tasks\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n"
    ).encode("ascii", errors="replace")


def _answer(wire: Wire) -> Answer:
    """Reads to the end: a server that hangs after its headers is not well."""
    response = http.client.HTTPResponse(wire, method="GET")  # type: ignore[arg-type]
    response.begin()
    body = response.read(MOST_BODY_BYTES)
    missing = response.length or 0
    if len(body) < MOST_BODY_BYTES and missing:
        raise NotHttp(f"{missing} bytes of the answer are missing")
    return Answer(status=response.status, body=body)
