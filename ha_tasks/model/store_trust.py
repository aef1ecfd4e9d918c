"""Whether a state store may be acted on: is it the one that was served, and is it as new as its agents?

A store that was restored from an old backup, failed over asynchronously or lost its data looks healthy.
It would lead a cluster by an epoch that is long over: route writes to a former primary, point standbys
to it. What it cannot change is what others remember: each home the id of the store that it served,
each agent the highest (epoch, fence) that it has obeyed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

APPROVE = "ha-tasks store approve"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFacts:
    """What a store says of itself beside what others remember.

    ``served``: the id of the store that this home served last; None: it is new. ``succeeds``: ids of
    stores whose place this one took by a person's word. ``approving``: who began an approval that has not
    ended. ``fence`` and ``epochs``: in SQL now, an epoch of 0 for a cluster that is not recorded;
    ``fence_seen`` and ``epochs_seen``: the highest that any agent or this process has ever seen.
    """

    store_id: str
    served: str | None = None
    succeeds: frozenset[str] = frozenset()
    moved_to: str = ""
    approving: str = ""
    fence: int = 0
    fence_seen: int = 0
    epochs: Mapping[str, int] = field(default_factory=dict)
    epochs_seen: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_stranger(self) -> bool:
        """True for another store than the one that this home served, unless it was approved as its heir."""
        return self.served is not None and self.served != self.store_id and self.served not in self.succeeds


def may_act(facts: StoreFacts) -> str | None:
    """None: act by this store. Otherwise why not, with the command that mends it."""
    if facts.moved_to:
        return (
            f"the store was copied to {facts.moved_to}: name that one under [store], "
            f"or take this one back into use: {APPROVE}"
        )
    if facts.approving:
        return f"an approval that {facts.approving} began has not ended: {APPROVE}"
    behind = _behind(facts)
    if behind:
        return f"the store is older than what was done by it: {behind}; restore the newest one, or: {APPROVE}"
    if facts.is_stranger:
        return (
            f"the store is not the one that was served here ({facts.served} before, now "
            f"{facts.store_id}): name that one under [store], or: {APPROVE}"
        )
    return None


def _behind(facts: StoreFacts) -> str:
    """The first number that others have seen higher; '' when there is none."""
    for cluster, seen in sorted(facts.epochs_seen.items()):
        epoch = facts.epochs.get(cluster, 0)
        if epoch < seen:
            return f"{cluster} was led in epoch {seen}, and here it is {epoch or 'not recorded'}"
    if facts.fence < facts.fence_seen:
        return f"fence {facts.fence_seen} was given, and here the last is {facts.fence}"
    return ""
