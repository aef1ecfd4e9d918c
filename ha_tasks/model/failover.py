"""Which standby may be promoted, and whom the others may follow then. Pure rules.

A failover that did not end leaves candidates that may have been promoted. Each makes a branch: a timeline
of its own, forked off the recorded primary's. The numbers of two branches may be equal while their content
is not, so they are ordered by their history, which is the order in which their candidates were recorded:
each was chosen when every earlier branch was fenced, and with every acknowledged row that there was. So the
latest branch that somebody holds has them all, and one that nobody holds can hold no acknowledged row,
because the set that its commits wait for was revoked, and was not empty.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ha_tasks.model.cluster import Cluster, Revoked, Unfinished, promotion_is_safe

History: TypeAlias = Sequence[tuple[int, int]]
"""Where timelines were left, oldest first: (timeline, LSN in bytes)."""
TRUNK = ""
"""The branch of the recorded primary."""
UNKNOWN = "?"
"""A branch that no recorded candidate has made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What a candidate's agent says of it; None: not known. ``on_disk``: the highest timeline there."""

    epoch: int
    in_recovery: bool | None
    promotion_begun: int | None
    timeline: int | None
    on_disk: int | None


def branch_of(node: Revoked, unfinished: Sequence[Unfinished]) -> str:
    """The candidate whose branch the node's newest WAL is of; TRUNK when it is the recorded primary's.

    Where the trunk's timeline was not recorded, everything counts as TRUNK: timelines' numbers decide.
    """
    if not unfinished or not unfinished[0].timeline or node.timeline <= unfinished[0].timeline:
        return TRUNK
    candidates = {u.candidate for u in unfinished}
    if node.node in candidates and node.begun is not None:
        return node.node
    return node.followed if node.followed and node.followed in candidates else UNKNOWN


def possible_primaries(cluster: Cluster, revoked: Iterable[Revoked]) -> tuple[Unfinished, ...]:
    """Candidates that may be primaries by now: all that do not show, in this epoch, that they are none.

    Whoever was revoked in this epoch takes no late command of the epoch that chose it.
    """
    answers = {r.node: r for r in revoked}
    return tuple(
        entry
        for entry in cluster.unfinished
        if entry.candidate not in answers or answers[entry.candidate].timeline > _trunk(cluster)
    )


def may_promote(cluster: Cluster, revoked: Collection[Revoked]) -> bool:
    """R + W > N for the recorded sets, and for the set of every candidate that may be a primary by now."""
    names = [r.node for r in revoked]
    doubted = [(u.sync_set,) for u in possible_primaries(cluster, revoked)]
    return all(promotion_is_safe(sets, names) for sets in (cluster.sets, *doubted))


def is_foreign_primary(
    cluster: Cluster, node: str, *, in_recovery: bool | None, promotion_begun: int | None
) -> bool:
    """True for another than the recorded primary that takes writes, and that no recorded failover promoted.

    Its clients' rows are in no set that a failover asks, and another promotion would make a second primary.
    """
    ours = promotion_begun is not None and any(u.candidate == node for u in cluster.unfinished)
    return node != cluster.primary and in_recovery is False and not ours


def choose_candidate(
    revoked: Collection[Revoked], unfinished: Sequence[Unfinished] = (), *, ranks: Collection[str] = ()
) -> Revoked | None:
    """The most advanced holder of the latest branch; of equals who bears a mark, then by ``ranks``, by name.

    Who bears the mark of a promotion cannot follow another without being rejoined.
    """
    order = {name: place for place, name in enumerate(ranks)}
    latest = {u.candidate: u.epoch for u in unfinished}
    return max(
        _holders(revoked, unfinished),
        key=lambda r: (
            r.timeline,
            r.lsn,
            r.begun is not None,
            latest.get(r.node, 0),
            -order.get(r.node, len(order)),
            _reversed(r.node),
        ),
        default=None,
    )


def survivors(
    chosen: Revoked,
    revoked: Iterable[Revoked],
    unfinished: Sequence[Unfinished],
    left_at: History = (),
) -> list[str]:
    """Who may be pointed to the chosen one as it stands; all others have to be rejoined.

    Whoever began a promotion, or has received from another branch, would stream from another history, and
    where the timelines bear the same number nothing would tell. ``left_at``: where the chosen one's history
    left its earlier timelines. Who received more of one of them, from a primary that nobody acknowledged any
    more, would never stream, and a set that counts it would never confirm.
    """
    own = branch_of(chosen, unfinished)
    same = {TRUNK, own} - {UNKNOWN}
    ends = dict(left_at)
    return [
        r.node
        for r in revoked
        if r.node != chosen.node
        and r.begun is None
        and branch_of(r, unfinished) in same
        and r.lsn <= ends.get(r.timeline, r.lsn)
    ]


def spare_survivors(cluster: Cluster, chosen: Revoked, spares: Iterable[Revoked]) -> list[str]:
    """Who of no recorded set may follow the chosen one as it stands, so that it need not be alone.

    Only where no branch exists, and only who has followed the recorded primary last: whatever else was once
    pointed elsewhere is brought there by a rejoin, which compares histories. Who has more than the chosen
    one would have to be rewound. None of them counts in R, and none is a candidate.
    """
    if cluster.unfinished:
        return []
    return [
        r.node
        for r in spares
        if r.followed == cluster.primary
        and r.begun is None
        and (r.timeline, r.system) == (chosen.timeline, chosen.system)
        and r.lsn <= chosen.lsn
    ]


def was_never_promoted(cluster: Cluster, word: Word) -> bool:
    """True when the node, asked in this epoch, shows that its history ends with the recorded primary's.

    Being in recovery is not enough: it may have been promoted, have acknowledged, crashed and come back.
    """
    if word.epoch < cluster.epoch or word.in_recovery is False:
        return False
    trunk = _trunk(cluster)
    known = [t for t in (word.timeline, word.on_disk) if t is not None]
    if not known or not trunk:
        return not trunk and word.promotion_begun is None
    return max(known) <= trunk


def _holders(revoked: Collection[Revoked], unfinished: Sequence[Unfinished]) -> Collection[Revoked]:
    for entry in reversed(unfinished):
        holders = [r for r in revoked if branch_of(r, unfinished) == entry.candidate]
        if holders:
            return holders
    return revoked


def _trunk(cluster: Cluster) -> int:
    """The recorded primary's timeline, as it was when the first candidate was chosen; 0: not recorded."""
    return cluster.unfinished[0].timeline if cluster.unfinished else 0


def _reversed(name: str) -> tuple[int, ...]:
    """A key by which the alphabetically first name is the greatest: ``pg1`` before ``pg10`` too."""
    return (*(-ord(letter) for letter in name), 1)
