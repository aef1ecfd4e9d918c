"""When the agent of a PostgreSQL primary ends it by itself. Pure: durations in seconds, monotonic clocks.

Its kills are no part of what makes a failover safe (that is the revocation); they end stale reads and
hanging writes of a primary that nobody can use any more. So each doubt lets it run: no rule may end a
primary whose synchronous standbys stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ISOLATED_FOR_S = 10.0
CONFIRMED_AFTER_S = 1.0
"""Two words about a higher epoch must be so far apart: one may have been under way for long."""
FORGOTTEN_AFTER_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a controller has read in the store, just before it said so: who is the primary since which epoch.

    ``steady``: no failover is under way, and none was called off half-way.
    """

    epoch: int
    primary: str
    steady: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A standing, and how long ago it was heard."""

    standing: Standing
    ago_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfView:
    """What the agent of a running primary knows.

    ``heard``: standings, oldest first; empty when none came since the agent began. ``obeyed``: the highest
    epoch on its disk. ``quorum``: W in force, 0 when commits wait for nobody. ``streaming``: members of
    the synchronous set that stream now; None when the server did not say. ``lonely_s``: for how long it
    has said without a break that none does.
    """

    node: str
    heard: Sequence[Heard]
    obeyed: int
    quorum: int
    streaming: int | None
    lonely_s: float


def why_fence(view: SelfView) -> str:
    """Why this primary must be ended by its own agent; empty: it must not."""
    if view.streaming is None:
        return ""
    if view.quorum and view.streaming >= view.quorum:
        return ""
    return _superseded(view) or _isolated(view)


def _superseded(view: SelfView) -> str:
    """Another node is the primary, in no lower epoch than was obeyed here, and that was said twice.

    Who says so has read it just before: that is the confirmation by SQL. A store that is not trusted
    says nothing (model/store_trust.py), and one that is behind names a lower epoch.
    """
    newer = [
        h
        for h in view.heard
        if h.standing.steady and h.standing.epoch >= view.obeyed and h.standing.primary != view.node
    ]
    recent = [h for h in newer if h.ago_s <= FORGOTTEN_AFTER_S]
    if not recent or recent[0].ago_s - recent[-1].ago_s < CONFIRMED_AFTER_S:
        return ""
    last = recent[-1].standing
    if view.heard[-1].standing != last:
        return ""
    return f"{last.primary} is the primary since epoch {last.epoch}; epoch {view.obeyed} was obeyed here"


def _isolated(view: SelfView) -> str:
    """Nobody with a store has spoken for long, and nobody acknowledges a commit: writes hang anyway.

    Who was never spoken to knows nothing of a store, and so nothing of its absence.
    """
    if not view.quorum or view.streaming or not view.heard:
        return ""
    silent_s = view.heard[-1].ago_s
    if silent_s < ISOLATED_FOR_S or view.lonely_s < ISOLATED_FOR_S:
        return ""
    return (
        f"no controller that reads the store has spoken for {silent_s:.0f} s, and no synchronous standby "
        f"has streamed for {view.lonely_s:.0f} s"
    )
