"""Histories by number: each seed is one, the same on every machine, and one that breaks is made small.

Beside hypothesis (machine.py), which searches and shrinks better but spends most of its time on itself: so
thousands can be played where it plays hundreds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.protocol.world import Broken, Fate, World

Event = tuple[str, tuple[Any, ...]]
FATES = [fate for fate in Fate if fate is not Fate.ARRIVES]
LENGTH = (10, 60)
LEADER = -1
"""Stands for whoever is the recorded primary when the event comes."""


@dataclass(frozen=True)
class History:
    """What is played: on so many nodes, these events, then everything is healed."""

    nodes: int
    events: tuple[Event, ...]

    def __str__(self) -> str:
        lines = ",\n    ".join(f'("{name}", {arguments!r})' for name, arguments in self.events)
        return f"nodes={self.nodes}, events=[\n    {lines}\n]".replace("<Fate.", "Fate.")


@dataclass(frozen=True)
class Found:
    """A history that breaks an invariant, and how."""

    seed: int
    history: History
    error: str

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.error}\n{self.history}"


def history_of(seed: int) -> History:
    """The history of that number."""
    chance = random.Random(seed)
    nodes = chance.choice([3, 3, 3, 4, 5])
    draw = _Draw(chance, nodes)
    return History(nodes, tuple(draw.event() for _ in range(chance.randint(*LENGTH))))


class _Draw:
    def __init__(self, chance: random.Random, nodes: int) -> None:
        self._chance, self._nodes = chance, nodes
        # Some kinds of trouble come often in one history and never in another.
        self._weights = [weight * chance.choice([0, 1, 1, 3]) for _, weight in _KINDS]
        self._weights[:4] = [weight for _, weight in _KINDS[:4]]

    def event(self) -> Event:
        ((name, _),) = self._chance.choices(_KINDS, self._weights)
        arguments: Callable[[], tuple[Any, ...]] = getattr(self, f"_{name}", self._of_a_node)
        return name, arguments()

    def _node(self) -> int:
        return self._chance.choice([LEADER, LEADER, *range(self._nodes)])

    def _of_a_node(self) -> tuple[Any, ...]:
        return (self._node(),)

    def _of_two(self) -> tuple[Any, ...]:
        return (self._node(), self._node())

    _cut = _slow = _of_two

    def _ship(self) -> tuple[Any, ...]:
        return (*self._of_two(), self._chance.random() < 0.7)

    def _flow(self) -> tuple[Any, ...]:
        return ()

    def _turn(self) -> tuple[Any, ...]:
        points = 1000 if self._chance.random() < 0.4 else self._chance.randint(1, 60)
        request = (
            self._chance.choice([*range(9), *_VERBS]),
            self._chance.choice(FATES),
            self._chance.randint(0, 9),
        )
        return (self._chance.choice("AB"), points, request if self._chance.random() < 0.5 else None)

    _work = _reconcile = _turn

    def _kill_controller(self) -> tuple[Any, ...]:
        return (self._chance.choice("AB"),)

    def _time(self) -> tuple[Any, ...]:
        return (self._chance.randint(1, 8),)

    def _deliver(self) -> tuple[Any, ...]:
        return (self._chance.randint(0, 3),)

    def _resume(self) -> tuple[Any, ...]:
        return (self._chance.randint(0, 1), self._chance.randint(1, 9))


_KINDS: Sequence[tuple[str, int]] = (
    ("suspect", 8),
    ("work", 20),
    ("time", 7),
    ("write", 10),
    ("reconcile", 5),
    ("kill_controller", 4),
    ("flow", 8),
    ("ship", 6),
    ("hear", 3),
    ("kill_server", 3),
    ("kill_agent", 2),
    ("start_agent", 3),
    ("kill_host", 4),
    ("freeze", 4),
    ("wake", 4),
    ("cut", 3),
    ("break_receiver", 3),
    ("slow", 3),
    ("deliver", 5),
    ("resume", 5),
)
_VERBS = ("revoke", "follow", "promote", "promote", "set_sync", "rejoin", "start_primary", "status")
_ABOUT_NODES = frozenset(
    [
        "suspect",
        "write",
        "ship",
        "hear",
        "kill_server",
        "kill_agent",
        "start_agent",
        "kill_host",
        "freeze",
        "wake",
        "cut",
        "break_receiver",
        "slow",
    ]
)


def play(history: History, make: Callable[[int], World]) -> World:
    """Plays it to its end; Broken, or whatever the shipped code raises that it must not."""
    world = make(history.nodes)
    for name, arguments in history.events:
        about = name in _ABOUT_NODES
        getattr(world, name)(*(_named(world, a) if about else a for a in arguments))
        world.check()
    world.end()
    return world


def _named(world: World, number: Any) -> Any:
    if isinstance(number, bool) or not isinstance(number, int):
        return number
    return world.leader if number == LEADER else world.names[number % len(world.names)]


def explore(
    seeds: Iterable[int], make: Callable[[int], World], *, small: bool = True
) -> tuple[int, Found | None]:
    """Plays the histories of the seeds up to the first that breaks; how many were played, and that one."""
    played = 0
    for seed in seeds:
        played += 1
        history = history_of(seed)
        error = _error(history, make)
        if error is not None:
            smallest = shrunk(history, make) if small else history
            return played, Found(seed, smallest, _error(smallest, make) or error)
    return played, None


def shrunk(history: History, make: Callable[[int], World]) -> History:
    """The same without every event that it breaks without."""
    events = list(history.events)
    size = max(1, len(events) // 2)
    while size:
        start = 0
        while start < len(events):
            less = History(history.nodes, tuple(events[:start] + events[start + size :]))
            if _error(less, make) is not None:
                events = list(less.events)
            else:
                start += size
        size //= 2
    return History(history.nodes, tuple(events))


def _error(history: History, make: Callable[[int], World]) -> str | None:
    try:
        play(history, make).give_up()
    except (Broken, AssertionError) as error:
        return f"{type(error).__name__}: {error}"
    return None
