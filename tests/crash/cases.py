"""The trials: which executor or server is stopped at which boundary of which run. Generated, fixed seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

SEED = 20261124
FORWARD = "http-instance"
BACKWARD = "trial-compensation"

DO_POINTS = ("offered", "claimed", "captured", "applied", "done", "settled", "sent")
UNDO_POINTS = ("offered", "claimed", "captured", "done", "settled", "sent")
FORWARD_STEPS = ("take_out", "spare_in", "restart_instance", "put_back", "spare_out", "verify_service")
BACKWARD_STEPS = ("trial.first", "trial.second", "trial.third", "trial.break")


class Victim(StrEnum):
    """What is stopped, and how."""

    CHILD = "child is killed"
    WORKER = "worker is killed"
    AGENT = "agent is killed"
    BEAT = "acting beat is killed"
    SIDECAR = "sidecar is killed"
    BROKER = "broker is killed"
    BROKER_DATA = "broker is killed and its data lost"
    CHILD_PAUSED = "child is paused"
    WORKER_PAUSED = "worker is paused"
    AGENT_PAUSED = "agent is paused"


EXECUTORS = (Victim.CHILD, Victim.WORKER)
"""Tried at every boundary."""
OTHERS = tuple(victim for victim in Victim if victim not in EXECUTORS)
OF_EACH = 12
"""At how many boundaries, drawn by lot, each of the others is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """``boundary``: phase, action (or the step's number, where that is all one knows), point."""

    playbook: str
    boundary: tuple[str, str, str]
    step: int
    victim: Victim
    store: str

    @property
    def name(self) -> str:
        """As pytest shows it."""
        phase, action, point = self.boundary
        victim = self.victim.replace(" is ", "-").replace(" ", "-")
        way = "forward" if self.playbook == FORWARD else "turned"
        return f"{self.store}-{way}-{phase}-{self.step}-{action}-{point}-{victim}"


def boundaries() -> list[tuple[str, int, tuple[str, str, str]]]:
    """(playbook, step, boundary) of every boundary that a forward run and a turned one pass."""
    found = []
    for no, action in enumerate(FORWARD_STEPS, start=1):
        found += [(FORWARD, no, ("do", _seen(action, no, point), point)) for point in DO_POINTS]
    for no, action in enumerate(BACKWARD_STEPS, start=1):
        fails = action == "trial.break"
        points = [p for p in DO_POINTS if not (fails and p == "applied")]
        found += [(BACKWARD, no, ("do", _seen(action, no, point), point)) for point in points]
    for no in (3, 2, 1):
        found += [(BACKWARD, no, ("undo", _seen(BACKWARD_STEPS[no - 1], no, p), p)) for p in UNDO_POINTS]
    return found


def _seen(action: str, no: int, point: str) -> str:
    return str(no) if point == "offered" else action


def cases() -> list[Case]:
    """Every boundary with each executor killed, and the other victims at boundaries drawn by lot."""
    lot = random.Random(SEED)
    every = boundaries()
    drawn = [(b, victim) for victim in EXECUTORS for b in every]
    drawn += [(b, victim) for victim in OTHERS for b in lot.sample(every, OF_EACH)]
    made = [
        Case(
            playbook=playbook,
            step=step,
            boundary=boundary,
            victim=victim,
            store=lot.choice(("sqlite", "sqlite", "postgres")),
        )
        for (playbook, step, boundary), victim in drawn
    ]
    return sorted(made, key=lambda case: case.store)


def sample(count: int) -> list[Case]:
    """What `make test` tries: each victim, both directions, on SQLite."""
    lot = random.Random(SEED)
    mine = [case for case in cases() if case.store == "sqlite"]
    lot.shuffle(mine)
    by_victim = {victim: [c for c in mine if c.victim is victim] for victim in Victim}
    per_victim = count // len(Victim)
    return [case for found in by_victim.values() for case in found[:per_victim]]
