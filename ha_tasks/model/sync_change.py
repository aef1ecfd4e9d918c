"""When the synchronous set of a cluster should change, and to what. Pure: facts in, a set out.

A member that receives nothing cannot confirm a revocation, so each silent member brings R + W > N closer to
failing: it is taken out while the primary lives, so that the next failure can be survived. What keeps this
from flapping: nothing is done within SILENT_FOR, a gap in what was seen begins the count again, and the way
back in is a run of its own that waits until the node has caught up. One change is under way at a time,
because beginning one is a compare-and-set on the cluster's epoch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ha_tasks.model.cluster import SyncSet, sync_set_of
from ha_tasks.model.platform import DataPolicy
from ha_tasks.model.probe import ProbeOutcome

SILENT_FOR = timedelta(seconds=10)
GAP = timedelta(seconds=2.5)
"""Nobody looked for so long: what was seen before says nothing about the time between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Whom the primary sent WAL to at ``at`` (aware UTC), by its own word."""

    at: datetime
    receiving: frozenset[str]


def members_of(sets: Iterable[SyncSet]) -> frozenset[str]:
    """Everybody whom a commit may wait for: while a change is under way, of both sets."""
    return frozenset(member for s in sets for member in s.members)


def being_put_back(sets: Sequence[SyncSet]) -> tuple[SyncSet, ...]:
    """The sets as they are recorded while one that was edited by hand is put back: the same twice.

    So whoever comes after a crash knows that WAL senders may be left that judge by the edited one, although
    the server shows the right one. To a failover it is the same proof as that set alone.
    """
    return (*sets, *sets)


def is_being_put_back(sets: Sequence[SyncSet]) -> bool:
    """See ``being_put_back``."""
    return len(sets) == 2 and sets[0] == sets[1]


def looks_at(primary: str, outcomes: Iterable[ProbeOutcome]) -> list[Look]:
    """The probes of the recorded primary that say whom it feeds."""
    return [
        Look(at=o.sent_at, receiving=frozenset(o.facts["standbys"]))
        for o in outcomes
        if o.target.instance == primary and o.ok and "standbys" in o.facts
    ]


def unheard(members: Collection[str], looks: Sequence[Look], now: datetime) -> Mapping[str, datetime]:
    """Members that have received nothing for SILENT_FOR, and since when.

    ``looks``: at the recorded primary, in any order. A member that any look in that time has seen receiving
    is heard; so is everybody when the looks do not cover that time without a gap, up to now.
    """
    latest_first = sorted(looks, key=lambda look: look.at, reverse=True)
    if not latest_first or now - latest_first[0].at > GAP:
        return {}
    since = dict.fromkeys(members, latest_first[0].at)
    open_ones, before = set(members), latest_first[0].at
    for look in latest_first:
        if before - look.at > GAP:
            break
        before = look.at
        open_ones -= look.receiving
        since.update(dict.fromkeys(open_ones, look.at))
    return {m: at for m, at in since.items() if latest_first[0].at - at >= SILENT_FOR}


def without(
    sets: Collection[SyncSet], silent: str, receiving: Collection[str], policy: DataPolicy
) -> SyncSet | None:
    """The set that should stand instead once ``silent`` is out of it; None: it stays, and commits wait.

    The others stay as long as enough of them receive to fill the new quorum; otherwise only those stay that
    do, because a change that nobody confirms can never be ended. It becomes empty only by policy
    AVAILABILITY: from then on a failure of the primary loses what was acknowledged last.
    """
    left = members_of(sets) - {silent}
    alive = left & set(receiving)
    new = sync_set_of(left)
    if len(alive) >= new.quorum > 0:
        return new
    if alive or policy is DataPolicy.AVAILABILITY:
        return sync_set_of(alive)
    return None


def including(sets: Collection[SyncSet], node: str, primary: str) -> SyncSet:
    """The set that should stand once ``node`` is in it: the youngest recorded set, and the node."""
    youngest = list(sets)[-1].members if sets else ()
    return sync_set_of({*youngest, node} - {primary})
