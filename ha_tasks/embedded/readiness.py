"""Looks at what a process does for its clients: RESP PING, HTTP answers, rows that it wrote.

Each maker gives a ``Ready``: an async function that raises NotReady while the answer is not right.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
from collections.abc import Callable
from pathlib import Path

from ha_tasks.embedded.background import in_background
from ha_tasks.embedded.ports import LOOPBACK
from ha_tasks.embedded.process import NotReady, Ready
from ha_tasks.embedded.secret_files import read
from ha_tasks.errors import HaTasksError


def answers_ping(port: int, password_file: Path | None = None, *, user: str = "default") -> Ready:
    """A Valkey or Redis that answers PONG to us, with its data loaded."""

    async def look() -> None:
        auth = f"AUTH {user} {read(password_file)}\r\n" if password_file else ""
        answer = await _talk(port, f"{auth}PING\r\nQUIT\r\n".encode())
        if b"+PONG" not in answer:
            raise NotReady(f"PING on port {port} is answered by {_first_line(answer)}")

    return look


def answers_http(
    port: int,
    path: str = "/",
    *,
    status: int = 200,
    basic_auth: Callable[[], str] | None = None,
    contains: str = "",
) -> Ready:
    """A GET that is answered with ``status`` and a body with ``contains`` in it.

    ``basic_auth`` gives ``user:password``.
    """

    async def look() -> None:
        headers = f"GET {path} HTTP/1.0\r\nHost: {LOOPBACK}:{port}\r\n"
        if basic_auth:
            headers += f"Authorization: Basic {base64.b64encode(basic_auth().encode()).decode()}\r\n"
        answer = await _talk(port, f"{headers}\r\n".encode())
        first = _first_line(answer)
        if not re.match(rf"HTTP/1\.[01] {status}\b", first):
            raise NotReady(f"GET {path} on port {port} is answered by {first}")
        if contains.encode() not in answer:
            raise NotReady(f"GET {path} on port {port} does not say {contains!r} yet")

    return look


def proved_by(look: Callable[[], str | None]) -> Ready:
    """A blocking look elsewhere, such as into the store: it says what is missing, None when nothing is.

    An error of ours there means the same as something missing.
    """

    async def ready() -> None:
        try:
            missing = await in_background(look)
        except HaTasksError as error:
            raise NotReady(str(error)) from error
        if missing is not None:
            raise NotReady(missing)

    return ready


async def _talk(port: int, request: bytes) -> bytes:
    """Everything that the server says until it closes. Raises NotReady when nobody listens."""
    try:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError as error:
        raise NotReady(f"nothing answers on port {port} ({_why(error)})") from error
    try:
        writer.write(request)
        return await reader.read(-1)
    except OSError as error:
        raise NotReady(f"port {port} broke off ({_why(error)})") from error
    finally:
        writer.close()


def _why(error: OSError) -> str:
    """The system's own word: asyncio puts one of its own in its place."""
    return os.strerror(error.errno) if error.errno else str(error)


def _first_line(answer: bytes) -> str:
    return answer.partition(b"\r\n")[0].decode(errors="replace") or "nothing"
