"""An application as users write them: plain ASGI, SQLAlchemy's pool of asyncpg connections, one table.

``python -m ha_tasks.embedded.application --port P`` serves it on loopback; the URL of the database comes
in HA_DRILL_DATABASE. GET /order inserts a row and answers 200 with the number of the node that has it, or
503 with the error's name. Nothing in it knows of failovers: what it does about them is ``pool_pre_ping``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from ha_tasks.embedded.ports import LOOPBACK

VARIABLE = "HA_DRILL_DATABASE"
TABLE = "ha_drill_orders"
POOL_SIZE = 5
POOL_TIMEOUT_S = 1.0
CONNECT_TIMEOUT_S = 2.0
COMMAND_TIMEOUT_S = 1.0
LARGEST_HEAD_BYTES = 8192

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Orders:
    """The ASGI application. ``engine`` is its pool."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request: whatever its body says, an order is taken at /order."""
        await receive()
        found = scope["path"] == "/order"
        status, body = await self._take() if found else (404, {"error": "there is only /order"})
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})

    async def _take(self) -> tuple[int, dict[str, str]]:
        sql = f"INSERT INTO {TABLE} DEFAULT VALUES RETURNING current_setting('cluster_name')"  # noqa: S608 - ours
        try:
            async with self._engine.begin() as connection:
                node = (await connection.execute(text(sql))).scalar_one()
        except (DBAPIError, PoolTimeout, OSError, TimeoutError) as error:
            return 503, {"error": type(error).__name__}
        return 200, {"name": str(node)}

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Its table is there while it serves."""
        async with self._engine.begin() as connection:
            await connection.execute(
                text(f"CREATE TABLE IF NOT EXISTS {TABLE} (at timestamptz DEFAULT now())")
            )
        try:
            yield
        finally:
            await self._engine.dispose()


def engine_at(url: str) -> AsyncEngine:
    """A pool as users configure it; the deadlines are those that the documentation recommends."""
    return create_async_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        pool_pre_ping=True,
        connect_args={"timeout": CONNECT_TIMEOUT_S, "command_timeout": COMMAND_TIMEOUT_S},
    )


async def serve(application: Orders, port: int) -> None:
    """HTTP/1.1 with a connection for each request, as little as an ASGI server can be; until cancelled."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            method, path, _ = head.split(b"\r\n", 1)[0].split(b" ", 2)
            scope = {"type": "http", "method": method.decode(), "path": path.decode()}
            await application(scope, _nothing, _Reply(writer))
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, ConnectionError):
            return  # no HTTP, or nobody there any more: there is nobody to tell
        finally:
            writer.close()

    async with application.lifespan():
        server = await asyncio.start_server(answer, LOOPBACK, port, limit=LARGEST_HEAD_BYTES)
        async with server:
            await server.serve_forever()


class _Reply:
    """ASGI's ``send`` on a stream."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._head = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            lines = [f"HTTP/1.1 {message['status']} -".encode(), b"connection: close"]
            lines += [name + b": " + value for name, value in message["headers"]]
            self._head = b"\r\n".join(lines)
            return
        body = message["body"]
        self._writer.write(self._head + b"\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await self._writer.drain()


async def _nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--port", required=True, type=int)
    options = parser.parse_args(arguments)
    asyncio.run(serve(Orders(engine_at(os.environ[VARIABLE])), options.port))


if __name__ == "__main__":
    main()
