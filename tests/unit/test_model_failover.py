"""Who may be promoted, of nodes that earlier failovers have left in any state; and who may follow it."""

from __future__ import annotations

import pytest

from ha_tasks.model.cluster import Cluster, ClusterState, Revoked, SyncSet, Unfinished, sync_set_of
from ha_tasks.model.failover import (
    Word,
    choose_candidate,
    may_promote,
    survivors,
    was_never_promoted,
)


def revoked(node: str, timeline: int, lsn: int) -> Revoked:
    """A standby's answer."""
    return Revoked(node=node, timeline=timeline, lsn=lsn)


@pytest.mark.parametrize(
    ("answers", "priority", "chosen"),
    [
        ([], (), None),
        ([revoked("pg2", 1, 5), revoked("pg3", 1, 9)], (), "pg3"),
        ([revoked("pg2", 2, 5), revoked("pg3", 1, 9)], (), "pg2"),
        ([revoked("pg3", 1, 5), revoked("pg2", 1, 5)], (), "pg2"),
        ([revoked("pg2", 1, 5), revoked("pg3", 1, 5)], ("pg3",), "pg3"),
        ([revoked("pg2", 1, 5), revoked("pg3", 1, 5)], ("pg3", "pg2"), "pg3"),
        ([revoked("pg2", 1, 5), revoked("pg3", 1, 6)], ("pg2",), "pg3"),
        ([revoked("pg10", 1, 5), revoked("pg1", 1, 5)], (), "pg1"),
    ],
    ids=["nobody", "LSN", "timeline", "name", "priority", "place", "data first", "a longer name"],
)
def test_the_most_advanced_is_chosen(answers: list[Revoked], priority: tuple[str, ...], chosen: str | None):
    for order in (answers, answers[::-1]):
        candidate = choose_candidate(order, ranks=priority)

        assert (candidate and candidate.node) == chosen


C1 = Unfinished(epoch=2, candidate="pg2", sync_set=sync_set_of(["pg3", "pg4"]), timeline=1)
C2 = Unfinished(epoch=3, candidate="pg3", sync_set=sync_set_of(["pg4"]), timeline=1)


def node(name: str, timeline: int, lsn: int, followed: str = "pg1", begun: int | None = None) -> Revoked:
    """A node that was revoked, and followed somebody before."""
    return Revoked(node=name, timeline=timeline, lsn=lsn, followed=followed, begun=begun)


@pytest.mark.parametrize(
    ("answers", "unfinished", "chosen", "left"),
    [
        ([node("pg2", 2, 90, begun=2), node("pg3", 1, 50)], [C1], "pg2", ["pg3"]),
        # Two branches of one number: the later candidate was chosen with all that the first had acknowledged.
        ([node("pg2", 2, 90, begun=2), node("pg3", 2, 60, begun=3)], [C1, C2], "pg3", []),
        ([node("pg2", 2, 90, begun=2), node("pg4", 2, 60, "pg3")], [C1, C2], "pg4", []),
        ([node("pg2", 2, 90, begun=2), node("pg4", 1, 50)], [C1, C2], "pg2", ["pg4"]),
        ([node("pg4", 2, 70, "pg2"), node("pg5", 2, 60, "pg3")], [C1, C2], "pg5", []),
        ([node("pg4", 2, 70, "pg2"), node("pg5", 2, 60, "pg2")], [C1, C2], "pg4", ["pg5"]),
        # Of one branch and one position who bears the mark: it can follow nobody.
        ([node("pg4", 2, 70, "pg2"), node("pg2", 2, 70, begun=2)], [C1], "pg2", ["pg4"]),
        # It was begun, and never came to a promotion: no branch, but nobody to be pointed elsewhere.
        ([node("pg2", 1, 50, begun=2), node("pg3", 1, 60)], [C1], "pg3", []),
        ([node("pg2", 1, 60, begun=2), node("pg3", 1, 60)], [C1], "pg2", ["pg3"]),
        # Nobody knows whose branch that is: it is the furthest, and nobody else is of it.
        ([node("pg5", 2, 60, "pg9"), node("pg4", 2, 50, "pg9")], [C1], "pg5", []),
    ],
)
def test_branches_are_ordered_by_their_history(answers, unfinished, chosen, left):
    for order in (answers, answers[::-1]):
        best = choose_candidate(order, unfinished)

        assert best is not None
        assert (best.node, survivors(best, order, unfinished)) == (chosen, left)


@pytest.mark.parametrize(
    ("lsn", "left_at", "left"),
    [
        (70, [(1, 70)], ["pg3"]),
        # Its primary lived, and sent it more than the candidate had; to nobody else, so nothing of it counts.
        (71, [(1, 70)], []),
        (71, [(1, 40), (2, 70)], []),
        (71, [], ["pg3"]),
    ],
)
def test_who_has_more_than_the_fork_is_rejoined(lsn, left_at, left):
    answers = [node("pg2", 2, 90, begun=2), node("pg3", 1, lsn)]

    assert survivors(answers[0], answers, [C1], left_at) == left


def test_what_an_older_version_recorded_is_ordered_by_number():
    old = Unfinished(epoch=2, candidate="pg2", sync_set=sync_set_of(["pg3"]))
    answers = [node("pg2", 2, 90, begun=2), node("pg3", 1, 50)]

    best = choose_candidate(answers, [old])

    assert best == answers[0]
    assert survivors(answers[0], answers, [old]) == ["pg3"]


def cluster_of(*unfinished: Unfinished, members: tuple[str, ...] = ("pg2", "pg3", "pg4")) -> Cluster:
    """In the middle of a failover, in epoch 5."""
    return Cluster(
        name="db",
        epoch=5,
        primary="pg1",
        state=ClusterState.FAILING,
        sets=(sync_set_of(members),),
        unfinished=unfinished,
    )


def test_the_set_of_a_candidate_that_may_be_a_primary_must_be_revoked_as_well():
    """R = 2 of 4 fences the recorded primary, and leaves pg2 a quorum of its own."""
    its = SyncSet(quorum=2, members=("pg3", "pg4", "pg5"))
    candidate = Unfinished(epoch=2, candidate="pg2", sync_set=its, timeline=1)
    cluster = cluster_of(candidate, members=("pg2", "pg3", "pg4", "pg5"))
    revoked = {name: node(name, 1, 50) for name in ("pg3", "pg4", "pg5")}
    promoted = [node("pg2", 2, 60, begun=2), revoked["pg3"], revoked["pg5"]]

    assert not may_promote(cluster_of(*cluster.unfinished, members=("pg2", "pg3", "pg4", "pg5")), [])
    assert may_promote(cluster, [revoked["pg3"], revoked["pg4"], revoked["pg5"]])
    assert may_promote(cluster, promoted)
    assert not may_promote(cluster, promoted[:2])
    assert not may_promote(cluster, [revoked["pg3"]])


def test_a_candidate_that_shows_that_it_was_never_promoted_has_no_set_to_be_revoked():
    """It was revoked in this epoch, so the late order to promote it is refused from now on."""
    cluster = cluster_of(C1)

    assert may_promote(cluster, [node("pg2", 1, 50), node("pg3", 1, 50)])
    assert may_promote(cluster, [node("pg2", 1, 50, begun=2), node("pg3", 1, 50)])
    assert not may_promote(cluster, [node("pg2", 2, 60, begun=2)])


@pytest.mark.parametrize(
    ("word", "never"),
    [
        (Word(epoch=5, in_recovery=True, promotion_begun=None, timeline=1, on_disk=1), True),
        (Word(epoch=5, in_recovery=True, promotion_begun=2, timeline=1, on_disk=1), True),
        (Word(epoch=5, in_recovery=None, promotion_begun=2, timeline=1, on_disk=1), True),
        # It was asked before, so a late order may still reach it.
        (Word(epoch=4, in_recovery=True, promotion_begun=None, timeline=1, on_disk=1), False),
        (Word(epoch=5, in_recovery=False, promotion_begun=None, timeline=1, on_disk=1), False),
        # Promoted, crashed, and back as a standby that has not replayed that far yet.
        (Word(epoch=5, in_recovery=True, promotion_begun=2, timeline=1, on_disk=2), False),
        (Word(epoch=5, in_recovery=True, promotion_begun=None, timeline=2, on_disk=2), False),
        (Word(epoch=5, in_recovery=None, promotion_begun=None, timeline=None, on_disk=None), False),
    ],
)
def test_a_candidate_was_never_promoted_when_its_history_ends_with_the_recorded_primary_s(word, never):
    assert was_never_promoted(cluster_of(C1), word) is never


def test_where_the_timeline_was_not_recorded_the_mark_decides():
    old = Unfinished(epoch=2, candidate="pg2", sync_set=sync_set_of(["pg3"]))
    unmarked = Word(epoch=5, in_recovery=True, promotion_begun=None, timeline=2, on_disk=2)
    marked = Word(epoch=5, in_recovery=True, promotion_begun=2, timeline=1, on_disk=1)

    assert was_never_promoted(cluster_of(old), unmarked)
    assert not was_never_promoted(cluster_of(old), marked)
