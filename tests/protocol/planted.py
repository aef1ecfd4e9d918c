"""Faults to plant: each takes one rule of the protocol out of the shipped code, or out of what it stands on.

A test that cannot fail proves nothing: ``test_planted_faults.py`` shows that each of these is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

from ha_tasks.model import failover
from ha_tasks.model.cluster import Cluster, promotion_is_safe
from ha_tasks.workflows import cluster_moves, sync_sets
from ha_tasks.workflows.actions.postgres import epoch, promotion, revocation
from tests.fakes.repositories import FakeClusters
from tests.protocol.agents import SimReceiving
from tests.protocol.instead import instead
from tests.protocol.rpc import SimControl
from tests.protocol.servers import Replication
from workers.agent.commands import DatabaseCommands
from workers.agent.ledger import Ledger
from workers.agent.memory import Memory

Planted = Callable[[], AbstractContextManager[Any]]


def _advancing(change: Callable[[dict[str, Any], Cluster], dict[str, Any] | None]) -> Any:
    """``advance`` with its changes changed; None: it answers as if it had been done."""
    shipped = FakeClusters.advance

    def advance(self: FakeClusters, name: str, expected: int, now: Any, **changes: Any) -> Cluster:
        changed = change(changes, self.clusters[name])
        if changed is None:
            return self.clusters[name]
        return shipped(self, name, expected, now, **changed)

    return instead(FakeClusters, advance=advance)


# --- the rule of promotion ---


def at_r_plus_w_equal_to_n() -> Any:
    """R + W = N is taken for safe."""

    def loose(sets: Any, revoked: Any) -> bool:
        confirmed = set(revoked)
        if not sets or any(not s.quorum for s in sets):
            return False
        return all(len(confirmed & set(s.members)) + s.quorum >= len(s.members) for s in sets)

    return instead(failover, promotion_is_safe=loose)


def each_set_alone() -> Any:
    """While two sets stand each is asked alone, not the union with the smaller quorum."""

    def alone(sets: Any, revoked: Any) -> bool:
        return bool(sets) and all(promotion_is_safe([s], revoked) for s in sets)

    return instead(failover, promotion_is_safe=alone)


def without_the_unfinished() -> Any:
    """The set of a candidate that may have been promoted is not asked."""
    return instead(failover, possible_primaries=lambda cluster, revoked: ())


def the_least_advanced() -> Any:
    """The candidate is whoever comes first by name."""

    def first(revoked: Any, *_: Any, **__: Any) -> Any:
        return min(revoked, key=lambda r: r.node, default=None)

    return instead(promotion, choose_candidate=first)


# --- what is recorded, and when ---


def take_over_in_the_same_epoch() -> Any:
    """A failover begins without a new epoch."""
    return _advancing(
        lambda changes, _: changes | {"new_epoch": False} if changes.get("state") == "failing" else changes
    )


def without_compare_and_set() -> Any:
    """The store takes a write of an earlier epoch, and of a run that another executor has taken over."""

    @contextmanager
    def planted() -> Iterator[None]:
        def reigns(self: FakeClusters, name: str, _: int) -> Cluster:
            return self.clusters[name]

        with (
            instead(FakeClusters, must_reign=reigns),
            _advancing(lambda changes, _: {k: v for k, v in changes.items() if k != "under"}),
        ):
            yield

    return planted()


def one_unfinished_candidate() -> Any:
    """``unfinished`` as a single column: the next candidate takes the place of the one before."""

    def change(changes: dict[str, Any], _: Cluster) -> dict[str, Any]:
        entries = changes.get("unfinished")
        return changes | {"unfinished": entries[-1:]} if entries else changes

    return _advancing(change)


def candidate_not_recorded() -> Any:
    """Nobody writes down who may be promoted."""
    return _advancing(
        lambda changes, _: changes | {"unfinished": ()} if changes.get("unfinished") else changes
    )


def committed_before_it_is_flushed() -> Any:
    """The new primary is recorded before its set has what it has."""
    return instead(epoch, wait_for_set=lambda *_: None)


def undone_over_a_candidate() -> Any:
    """A refusal is undone although a candidate may have been promoted, and nobody has asked it."""

    @contextmanager
    def planted() -> Iterator[None]:
        def struck(tools: Any, cluster: Cluster) -> Cluster:
            now = tools.clock.now()
            return tools.clusters.advance(cluster.name, cluster.epoch, now, new_epoch=False, unfinished=())

        with (
            instead(revocation, without_the_innocent=struck),
            instead(cluster_moves, must_be_undoable=lambda cluster: None),
        ):
            yield

    return planted()


def recorded_before_applied() -> Any:
    """A change of the set: the new one is recorded alone at once, and applied afterwards."""

    def change(changes: dict[str, Any], _: Cluster) -> dict[str, Any]:
        sets = changes.get("sets")
        return changes | {"sets": sets[-1:]} if sets else changes

    return _advancing(change)


def applied_before_recorded() -> Any:
    """A change of the set: the new one is applied while only the old one is recorded."""

    def change(changes: dict[str, Any], cluster: Cluster) -> dict[str, Any]:
        sets = changes.get("sets")
        return changes | {"sets": cluster.sets} if sets and len(sets) > 1 else changes

    return _advancing(change)


def walsenders_not_ended() -> Any:
    """After a change of the set walsenders that have read only the old one go on."""
    return instead(SimControl, end_walsenders=lambda *_: None)


def new_set_not_awaited() -> Any:
    """The new set is recorded alone before it has what the primary has."""
    return instead(sync_sets, wait_for_set=lambda *_: None)


# --- the agent ---


def lower_pairs_obeyed() -> Any:
    """The ledger refuses nobody."""
    return instead(Ledger, _refuse_lower=lambda self, by: None)


def ledger_written_afterwards() -> Any:
    """The pair is on the disk only when the command has ended."""

    @contextmanager
    def planted() -> Iterator[None]:
        raise_to, close = Ledger._raise_to, Ledger.close

        def later(self: Ledger, by: Any) -> None:
            self._highest = by

        def closed(self: Ledger, warrant: Any) -> None:
            raise_to(self, replace(warrant.by, fence=warrant.by.fence))
            self._path.value = {"epoch": self._highest.epoch, "fence": self._highest.fence}
            close(self, warrant)

        with instead(Ledger, _raise_to=later), instead(Ledger, close=closed):
            yield

    return planted()


def no_mark() -> Any:
    """The agent promotes without a mark on its disk."""
    note = Memory.note

    def forgetful(self: Memory, **changes: Any) -> None:
        if changes.get("promotion_begun") is not None:
            del changes["promotion_begun"]
        note(self, **changes)

    return instead(Memory, note=forgetful)


def mark_not_asked() -> Any:
    """A node that began a promotion is pointed to another like any other."""
    return instead(DatabaseCommands, _require_clean_standby=lambda self: None)


def receiver_lives_on() -> Any:
    """A revocation takes the setting away and does not end the receiver."""
    return instead(SimReceiving, end=lambda self: None)


def any_standby_name() -> Any:
    """No slots: while an old walsender lingers, one standby counts twice."""
    init = Replication.__init__

    def without(self: Replication, names: list[str]) -> None:
        init(self, names)
        self.slots = False

    return instead(Replication, __init__=without)


PLANTED: Mapping[str, Planted] = {
    plant.__name__: plant
    for plant in (
        at_r_plus_w_equal_to_n,
        each_set_alone,
        without_the_unfinished,
        the_least_advanced,
        take_over_in_the_same_epoch,
        without_compare_and_set,
        one_unfinished_candidate,
        candidate_not_recorded,
        committed_before_it_is_flushed,
        undone_over_a_candidate,
        recorded_before_applied,
        applied_before_recorded,
        walsenders_not_ended,
        new_set_not_awaited,
        lower_pairs_obeyed,
        ledger_written_afterwards,
        no_mark,
        mark_not_asked,
        receiver_lives_on,
        any_standby_name,
    )
}
