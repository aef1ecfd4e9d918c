"""Blocking work beside the event loop, in daemon threads: what hangs does not hold up the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def in_background(work: Callable[[], T]) -> T:
    """The result of ``work``, or its error. Cancelling lets it go on unheard."""
    return await asyncio.wrap_future(_started(work))


def side_by_side(items: Iterable[str], do: Callable[[str], object]) -> None:
    """Does it for every item at once; raises the first error once all have ended."""
    running = [_started(lambda item=item: do(item)) for item in items]  # type: ignore[misc]
    errors = [error for future in running if (error := future.exception())]
    if errors:
        raise errors[0]


def _started(work: Callable[[], T]) -> Future[T]:
    future: Future[T] = Future()

    def run() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - it is raised again where the result is awaited
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, daemon=True).start()
    return future
