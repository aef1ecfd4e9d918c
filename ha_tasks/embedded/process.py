"""What the supervisor starts: processes, and jobs between them, with what each of them needs."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Ready = Callable[[], Awaitable[None]]
"""Looks once whether the process does its work; raises NotReady when it does not yet."""


class NotReady(Exception):
    """Says what is still missing."""


async def at_once() -> None:
    """The readiness of what is ready as soon as it runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A program under supervision. Times in seconds.

    It starts once everything that it ``needs`` is ready, and ends before any of that does.
    ``prepare`` is called before every start (it writes what the program reads). The first word of
    ``command`` is an absolute path. ``warm``: the command is ``python -m ...``, and its imports are ready
    in the nursery.
    """

    name: str
    kind: str
    command: tuple[str, ...]
    log: Path
    needs: tuple[str, ...] = ()
    ready: Ready = at_once
    ready_timeout_s: float = 30.0
    look_every_s: float = 0.05
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[], None] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 5.0
    warm: bool = False
    where: str = ""
    """What people are told when it is ready, such as its address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Something that is done once at the start, and perhaps undone at the stop. Times in seconds."""

    name: str
    start: Callable[[], Awaitable[None]]
    needs: tuple[str, ...] = ()
    stop: Callable[[], Awaitable[None]] | None = None
    timeout_s: float = 60.0
    stop_timeout_s: float = 15.0
    where: str = ""


Node = Process | Job


def check_graph(nodes: Sequence[Node]) -> None:
    """Raises ValueError for a doubled name, an unknown need, or a circle. For the table's author."""
    names = [node.name for node in nodes]
    doubled = {name for name in names if names.count(name) > 1}
    unknown = {need for node in nodes for need in node.needs} - set(names)
    if doubled or unknown:
        raise ValueError(f"named twice: {sorted(doubled)}, needed but unknown: {sorted(unknown)}")
    settled: set[str] = set()
    while left := [node for node in nodes if node.name not in settled]:
        next_ones = {node.name for node in left if settled.issuperset(node.needs)}
        if not next_ones:
            raise ValueError(f"these need one another: {sorted(node.name for node in left)}")
        settled |= next_ones
