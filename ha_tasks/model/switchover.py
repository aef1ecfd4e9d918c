"""When a primary may hand over to a standby by plan. Pure rules; see docs/howto/switchover.md.

A switchover is a failover whose primary is well: it ends with a clean shutdown, which hands its last record
to the standbys, so nothing can be lost, and whatever objects before the promotion puts everything back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from ha_tasks.model.cluster import Cluster, ClusterState, Revoked
from ha_tasks.model.failover import choose_candidate

MOST_LAG_BYTES = 16 * 1024 * 1024
"""A standby further behind than this has too much to receive while nobody can write."""
LONGEST_TRANSACTION_S = 10.0
"""A transaction that is older would be ended by the shutdown, or holds up a pooler's pause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One that is under way on the primary. ``age_s``: seconds since it began."""

    pid: int
    user: str
    application: str
    age_s: float

    def __str__(self) -> str:
        """As a person looks for it."""
        application = f" ({self.application})" if self.application else ""
        return f"pid {self.pid} of {self.user or 'nobody'}{application}, for {self.age_s:.0f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standby:
    """A node of the cluster that is not its primary, as its agent sees it. None: the agent is silent."""

    running: bool
    in_recovery: bool | None
    upstream: str | None
    receiving: bool | None
    promotion_begun: int | None
    timeline: int | None
    lsn: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchoverFacts:
    """What a switchover is judged by. ``primary_lsn``: bytes, None when it does not answer."""

    cluster: Cluster
    candidate: str
    standbys: Mapping[str, Standby | None]
    streaming: frozenset[str]
    primary_agent: bool
    primary_lsn: int | None
    transactions: tuple[Transaction, ...] = ()
    most_lag_bytes: int = MOST_LAG_BYTES
    primary_error: str = ""

    def is_fed(self, node: str) -> bool:
        """False only by the primary's own word: while it cannot be asked, that is the objection."""
        return self.primary_lsn is None or node in self.streaming


def objections(facts: SwitchoverFacts) -> tuple[str, ...]:
    """Why it must not begin, the most important first; empty: it may. Each says what and how to mend it."""
    return (*_of_cluster(facts), *_of_candidate(facts), *_of_others(facts), *_of_transactions(facts))


def _of_cluster(facts: SwitchoverFacts) -> Iterable[str]:
    cluster = facts.cluster
    if cluster.state is not ClusterState.STEADY or cluster.unfinished:
        yield f"{cluster.name} is {cluster.state}; wait until it is steady: ha-tasks status"
    if len(cluster.sets) > 1:
        yield f"a change of the synchronous set of {cluster.name} is under way; wait until it has ended"
    if facts.primary_lsn is None:
        why = f" ({facts.primary_error})" if facts.primary_error else ""
        yield (
            f"{cluster.primary} cannot be asked{why}; if it is down: ha-tasks recover {cluster.name}; "
            "if it runs: ha-tasks check --connect"
        )
    if not facts.primary_agent:
        yield f"the agent of {cluster.primary} does not answer; nobody else can stop it cleanly"


def _of_candidate(facts: SwitchoverFacts) -> Iterable[str]:
    cluster, name = facts.cluster, facts.candidate
    if name == cluster.primary:
        yield f"{name} is the primary already"
        return
    if not any(name in s.members for s in cluster.sets):
        yield f"{name} is not in the synchronous set, so it may lack what was acknowledged"
    standby = facts.standbys.get(name)
    if standby is None:
        yield f"the agent of {name} does not answer"
    elif not standby.running or standby.in_recovery is not True:
        yield f"{name} is no running standby"
    else:
        yield from _of_standby(facts, name, standby)


def _of_standby(facts: SwitchoverFacts, name: str, standby: Standby) -> Iterable[str]:
    primary = facts.cluster.primary
    if standby.promotion_begun is not None:
        yield f"{name} began a promotion in epoch {standby.promotion_begun}; it must rejoin first"
    if standby.upstream != primary or not facts.is_fed(name) or not standby.receiving:
        yield f"{name} does not stream from {primary}"
        return
    behind = (facts.primary_lsn or 0) - (standby.lsn or 0)
    if behind > facts.most_lag_bytes:
        yield f"{name} is {behind} bytes behind, {facts.most_lag_bytes} at most; let it catch up"


def _of_others(facts: SwitchoverFacts) -> Iterable[str]:
    """Every member must confirm that it has left the old primary, as in a failover (R + W > N)."""
    members = {m for s in facts.cluster.sets for m in s.members} - {facts.candidate, facts.cluster.primary}
    for name in sorted(members):
        standby = facts.standbys.get(name)
        if standby is None:
            yield f"the agent of {name} does not answer"
        elif not standby.running or not facts.is_fed(name):
            yield f"{name} does not stream from {facts.cluster.primary}; bring it back first"


def _of_transactions(facts: SwitchoverFacts) -> Iterable[str]:
    if facts.transactions:
        named = "; ".join(str(t) for t in facts.transactions[:5])
        more = f" and {len(facts.transactions) - 5} more" if len(facts.transactions) > 5 else ""
        yield f"long transactions would be cut: {named}{more}; let them end, or end them"


def successor(
    cluster: Cluster, standbys: Mapping[str, Standby | None], *, ranks: Collection[str] = ()
) -> str | None:
    """The standby that is proposed where a person names none: the furthest one of the synchronous set.

    ``ranks``: whom is preferred of those equally far, the first most.
    """
    members = {m for s in cluster.sets for m in s.members} - {cluster.primary}
    able = [
        Revoked(node=name, timeline=s.timeline or 0, lsn=s.lsn)
        for name, s in standbys.items()
        if name in members and s is not None and s.running and s.in_recovery and s.lsn is not None
    ]
    best = choose_candidate(able, ranks=ranks)
    return None if best is None else best.node


def has_it_all(end: Revoked, received: Revoked) -> bool:
    """True when a standby has the shutdown checkpoint that begins at ``end``.

    WAL is sent by whole records, so one that has more than its beginning has all of it.
    """
    return received.timeline == end.timeline and received.lsn > end.lsn
