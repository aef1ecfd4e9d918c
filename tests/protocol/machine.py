"""Histories by hypothesis: which events, on whom, how far a controller gets, what becomes of its requests."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.protocol.world import Fate, World, worlds

NODES = st.integers(0, 4)
WHO = st.sampled_from(["A", "B"])
POINTS = st.one_of(st.just(1000), st.integers(1, 60))
FATES = st.sampled_from([f for f in Fate if f is not Fate.ARRIVES])
TROUBLE = st.one_of(st.none(), st.tuples(st.integers(0, 9), FATES, st.integers(0, 8)))


class Histories(RuleBasedStateMachine):
    """One history; ``made`` is set by whoever runs it."""

    made: Callable[[int], World]

    def __init__(self) -> None:
        super().__init__()
        self.world: World | None = None

    @initialize(nodes=st.sampled_from([3, 3, 4, 5]))
    def begin(self, nodes: int) -> None:
        self.world = type(self).made(nodes)

    def _do(self, event: str, *arguments: Any) -> None:
        assert self.world is not None
        getattr(self.world, event)(*arguments)
        self.world.check()

    def _node(self, number: int) -> str:
        assert self.world is not None
        return self.world.names[number % len(self.world.names)]

    # clients and what flows

    @rule(node=NODES)
    def write(self, node: int) -> None:
        self._do("write", self._node(node))

    @rule()
    def write_and_flow(self) -> None:
        for name in self.world.names:
            self._do("write", name)
        self._do("flow")

    @rule(node=NODES, standby=NODES, heard=st.booleans())
    def ship(self, node: int, standby: int, heard: bool) -> None:
        self._do("ship", self._node(node), self._node(standby), heard)

    @rule(node=NODES)
    def hear(self, node: int) -> None:
        self._do("hear", self._node(node))

    # faults

    @rule(node=NODES)
    def kill_server(self, node: int) -> None:
        self._do("kill_server", self._node(node))

    @rule(node=NODES)
    def kill_agent(self, node: int) -> None:
        self._do("kill_agent", self._node(node))

    @rule(node=NODES)
    def start_agent(self, node: int) -> None:
        self._do("start_agent", self._node(node))

    @rule(node=NODES)
    def kill_host(self, node: int) -> None:
        self._do("kill_host", self._node(node))

    @rule(node=NODES)
    def freeze(self, node: int) -> None:
        self._do("freeze", self._node(node))

    @rule(node=NODES)
    def wake(self, node: int) -> None:
        self._do("wake", self._node(node))

    @rule(one=NODES, other=NODES)
    def cut(self, one: int, other: int) -> None:
        self._do("cut", self._node(one), self._node(other))

    @rule(node=NODES)
    def break_receiver(self, node: int) -> None:
        self._do("break_receiver", self._node(node))

    @rule(node=NODES, standby=NODES)
    def slow(self, node: int, standby: int) -> None:
        self._do("slow", self._node(node), self._node(standby))

    # requests on their way

    @rule(number=st.integers(0, 3))
    def deliver(self, number: int) -> None:
        self._do("deliver", number)

    @rule(number=st.integers(0, 1), points=st.integers(1, 10))
    def resume(self, number: int, points: int) -> None:
        self._do("resume", number, points)

    # controllers

    @rule(node=NODES)
    def suspect(self, node: int) -> None:
        self._do("suspect", self._node(node))

    @rule(who=WHO, points=POINTS, trouble=TROUBLE)
    def work(self, who: str, points: int, trouble: Any) -> None:
        self._do("work", who, points, trouble)

    @rule(who=WHO, points=POINTS, trouble=TROUBLE)
    def go_on(self, who: str, points: int, trouble: Any) -> None:
        """After the lease of whoever held the run is over."""
        self._do("time", 5)
        self._do("work", who, points, trouble)

    @rule(node=st.sampled_from([0, 0, 1, 2]), who=WHO, points=POINTS, trouble=TROUBLE)
    def lose(self, node: int, who: str, points: int, trouble: Any) -> None:
        """What the protocol is for: the primary, or another, is suspected, and somebody acts on it."""
        name = self.world.store.clusters.get("db").primary if node == 0 else self._node(node)
        self._do("suspect", name)
        self._do("work", who, points, trouble)

    @rule(who=WHO, points=POINTS, trouble=TROUBLE)
    def reconcile(self, who: str, points: int, trouble: Any) -> None:
        self._do("reconcile", who, points, trouble)

    @rule(who=WHO)
    def kill_controller(self, who: str) -> None:
        self._do("kill_controller", who)

    @rule(seconds=st.integers(1, 20))
    def time(self, seconds: int) -> None:
        self._do("time", seconds)

    def teardown(self) -> None:
        if self.world is not None:
            try:
                self.world.end()
            finally:
                self.world.give_up()


@contextmanager
def many_histories() -> Any:
    """Yields ``play(count, steps=...)``, which plays so many and raises the first that breaks."""
    with worlds() as make:

        def play(count: int, *, steps: int = 30, shrink: bool = True, derandomize: bool = True) -> None:
            Histories.made = staticmethod(make)
            phases = [Phase.generate, Phase.shrink] if shrink else [Phase.generate]
            run_state_machine_as_test(
                Histories,
                settings=settings(
                    max_examples=count,
                    stateful_step_count=steps,
                    derandomize=derandomize,
                    database=None,
                    deadline=None,
                    phases=phases,
                    report_multiple_bugs=False,
                    suppress_health_check=list(HealthCheck),
                ),
            )

        yield play
