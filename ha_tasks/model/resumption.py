"""What becomes of a failover that did not end: back, forward, or waiting for somebody to answer. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from ha_tasks.model.cluster import Cluster, ClusterState, Revoked
from ha_tasks.model.failover import (
    History,
    Word,
    choose_candidate,
    is_foreign_primary,
    may_promote,
    spare_survivors,
    survivors,
    was_never_promoted,
)


class Way(StrEnum):
    """BACK: call it off. FORWARD: another failover, which may find all that it needs. WAIT: neither yet."""

    BACK = "back"
    FORWARD = "forward"
    WAIT = "wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an agent says of its node now. ``runs``: PostgreSQL does, so it could be revoked."""

    word: Word
    runs: bool
    lsn: int | None = None
    upstream: str | None = None
    """Node that it follows, or followed before it was told to follow nobody."""
    history: History = ()
    """Where its earlier timelines were left; empty also where that is not known."""


NOBODY: Mapping[str, Answer] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """As what a stopped node is started; ``upstream`` None: as a primary with that setting."""

    upstream: str | None = None
    sync_setting: str = ""


def start_of(cluster: Cluster, node: str, answer: Answer) -> Start | None:
    """None for a node that must not be started by what is known: it is rejoined later."""
    if cluster.state is ClusterState.BLOCKED and not cluster.unfinished:
        return Start(upstream=cluster.primary) if answer.word.promotion_begun is None else None
    if not cluster.unfinished:
        return None
    latest = cluster.unfinished[-1]
    if node == latest.candidate and answer.word.promotion_begun is not None:
        # Chosen again, it may have stopped before it heard of it: it is what its mark says.
        begun = [
            u for u in cluster.unfinished if (u.candidate, u.epoch) == (node, answer.word.promotion_begun)
        ]
        # Beyond the trunk: chosen again it was on its own branch already. One that is a standby refuses.
        beyond = bool(begun) and (answer.word.on_disk or 0) > cluster.unfinished[0].timeline
        return Start(sync_setting=begun[-1].sync_set.setting()) if beyond else None
    follows = node in latest.sync_set.members and answer.upstream == latest.candidate
    return Start(upstream=latest.candidate) if follows else None


def way_on(cluster: Cluster, answers: Mapping[str, Answer], spares: Mapping[str, Answer] = NOBODY) -> Way:
    """By who answers now; whoever acts on it asks again, in an epoch of its own.

    ``spares``: nodes that are in no recorded set; one of them may acknowledge for a lone candidate.
    Back only if every candidate shows that it was never promoted; forward only if a promotion could be
    proved safe, so that nothing is begun over and over that ends in the same refusal.
    """
    if cluster.state is ClusterState.FAILING and _all_innocent(cluster, answers):
        return Way.BACK
    return Way.FORWARD if _could_be_ended(cluster, answers, spares) else Way.WAIT


def awaited(cluster: Cluster, answers: Mapping[str, Answer]) -> list[str]:
    """Whose answer would help: members of recorded sets and candidates that are silent, or do not run."""
    sets = [*cluster.sets, *(u.sync_set for u in cluster.unfinished)]
    names = {m for s in sets for m in s.members} | {u.candidate for u in cluster.unfinished}
    return sorted(n for n in names - {cluster.primary} if n not in answers or not answers[n].runs)


def foreign(cluster: Cluster, answers: Mapping[str, Answer]) -> list[str]:
    """Who takes writes, and should not: nothing is promoted beside it."""
    return sorted(
        node
        for node, a in answers.items()
        if a.runs
        and is_foreign_primary(
            cluster, node, in_recovery=a.word.in_recovery, promotion_begun=a.word.promotion_begun
        )
    )


def _all_innocent(cluster: Cluster, answers: Mapping[str, Answer]) -> bool:
    """As if each had been asked in this epoch: before it is acted on, it is."""
    return all(
        u.candidate in answers
        and was_never_promoted(cluster, replace(answers[u.candidate].word, epoch=cluster.epoch))
        for u in cluster.unfinished
    )


def _could_be_ended(cluster: Cluster, answers: Mapping[str, Answer], spares: Mapping[str, Answer]) -> bool:
    able = _able(cluster, answers)
    if foreign(cluster, answers) or not may_promote(cluster, able):
        return False
    best = choose_candidate(able, cluster.unfinished)
    if best is None:
        return False
    left = survivors(best, able, cluster.unfinished, answers[best.node].history)
    return bool(left or spare_survivors(cluster, best, _able(cluster, spares)))


def _able(cluster: Cluster, answers: Mapping[str, Answer]) -> list[Revoked]:
    return [r for node, a in answers.items() if (r := _as_revoked(node, a, cluster.primary)) is not None]


def _as_revoked(node: str, answer: Answer, primary: str) -> Revoked | None:
    word = answer.word
    if node == primary or not answer.runs or word.timeline is None or answer.lsn is None:
        return None
    if word.in_recovery is False and word.promotion_begun is None:
        return None
    newest = max(word.timeline, word.on_disk or 0) if word.promotion_begun is not None else word.timeline
    return Revoked(
        node=node, timeline=newest, lsn=answer.lsn, followed=answer.upstream, begun=word.promotion_begun
    )
