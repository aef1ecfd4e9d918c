"""The faults: signals to the processes of one node, the same for every system."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from tests.benchmarks.failover.systems import System

AFTER_WAKING_S = 10.0
"""So long a node that was woken is watched for acknowledgements that it should not give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """``number`` is a signal (0: none, the link goes down) for the postmaster, and for whom else is said."""

    name: str
    text: str
    number: int
    children: bool = False
    agents: bool = False

    @property
    def wakes(self) -> bool:
        """What is not killed comes back later."""
        return self.number != signal.SIGKILL

    @property
    def takes_the_machine(self) -> bool:
        """Nobody on the node is left to start anything again."""
        return self.agents and not self.wakes


FAULTS = {
    fault.name: fault
    for fault in (
        Fault(name="crash", text="kill -9 of the postmaster", number=signal.SIGKILL),
        Fault(
            name="nodekill",
            text="kill -9 of agent, postmaster and all its children",
            number=signal.SIGKILL,
            children=True,
            agents=True,
        ),
        Fault(
            name="hoststop",
            text="kill -STOP of all of these, woken later, as a virtual machine may be",
            number=signal.SIGSTOP,
            children=True,
            agents=True,
        ),
        Fault(
            name="pgstop",
            text="kill -STOP of the database alone, woken later; its agent lives",
            number=signal.SIGSTOP,
            children=True,
        ),
        Fault(
            name="pmstop",
            text="kill -STOP of the postmaster alone, woken later: old sessions go on",
            number=signal.SIGSTOP,
        ),
        Fault(name="dark", text="the node's network link is down, up again later: silence", number=0),
    )
}


def inject(fault: Fault, system: System, node: str) -> datetime:
    """Does it; answers the moment just before. RuntimeError when there is nothing to break."""
    agents, database = system.agents(node), system.database(node)
    if not agents or not database:
        raise RuntimeError(f"{system.name}: nothing to break on {node}: {agents=}, {database=}")
    if fault.takes_the_machine:
        system.hold(node)
    moment = datetime.now(UTC)
    if not fault.number:
        system.darken(node)
        return moment
    _send(fault.number, agents if fault.agents else [])
    _send(fault.number, database if fault.children else database[:1])
    if fault.children:
        # A backend that was being forked was in no list.
        _send(fault.number, system.database(node))
    return moment


def heal(fault: Fault, system: System, node: str) -> None:
    """Wakes, brings the link back, lets come back. Idempotent."""
    if not fault.number:
        system.light(node)
    elif fault.wakes:
        _send(signal.SIGCONT, [*system.agents(node), *system.database(node)])
    elif fault.takes_the_machine:
        system.release(node)


def _send(number: int, pids: Collection[int]) -> None:
    """One that is gone meanwhile needs no signal."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
