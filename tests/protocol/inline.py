"""Pools that do their work at once: what runs side by side is a matter of the history, not of threads."""

from __future__ import annotations

import concurrent.futures
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

from tests.protocol.instead import instead


class InlinePool:
    """Stands for a ThreadPoolExecutor."""

    def __init__(self, *_: object, **__: object) -> None:
        """However many there may be."""

    def __enter__(self) -> InlinePool:
        return self

    def __exit__(self, *_: object) -> None:
        """Everything is done already."""

    def map(self, call: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        return [call(item) for item in items]

    def submit(self, call: Callable[..., Any], *arguments: Any) -> InlineFuture:
        return InlineFuture(call, arguments)

    def shutdown(self, **_: object) -> None:
        """Everything is done already."""


class InlineFuture:
    """A future that has come."""

    def __init__(self, call: Callable[..., Any], arguments: Iterable[Any]) -> None:
        self._error: Exception | None = None
        try:
            self._value = call(*arguments)
        except Exception as error:  # noqa: BLE001 - handed on, as a future does
            self._error = error

    def exception(self) -> Exception | None:
        return self._error

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value


def _as_completed(futures: Iterable[InlineFuture]) -> Iterator[InlineFuture]:
    return iter(list(futures))


def _wait(futures: Iterable[InlineFuture], **_: object) -> Any:
    return SimpleNamespace(done=set(futures), not_done=set())


_INSTEAD = {"ThreadPoolExecutor": InlinePool, "as_completed": _as_completed, "wait": _wait}


@contextmanager
def inline_pools() -> Iterator[None]:
    """Every module of ours that has a pool has one of these, as long as this lasts."""
    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            for word, other in _INSTEAD.items():
                ours = name.startswith("ha_tasks.")
                if ours and getattr(module, word, None) is getattr(concurrent.futures, word):
                    stack.enter_context(instead(module, **{word: other}))
        yield
