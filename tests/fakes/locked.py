"""What fakes of repositories have in common: each verb is one transaction, JSON comes back as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from threading import RLock
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Locked(Protocol):
    """Anything with a lock."""

    lock: RLock


S = TypeVar("S", bound=Locked)


def one_at_a_time(verb: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Each verb is one transaction."""

    @wraps(verb)
    def locked(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.lock:
            return verb(self, *args, **kwargs)

    return locked


def plain(value: Any) -> Any:
    """What comes back out of a JSON column."""
    return json.loads(json.dumps(value))
