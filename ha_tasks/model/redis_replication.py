"""Replication of a Redis or Valkey service: who leads, who follows, who could lead, what would be lost. Pure.

It is asynchronous: a write is acknowledged before any replica has it. So a loss is never proven to be
nothing, it is measured, and only for the moment of the look. Positions are offsets in bytes of the stream of
commands; they compare only within one history, which its replication id names. A primary that was started
again, or a replica that was promoted, begins another one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ha_tasks.model.platform import ServiceKind
from ha_tasks.model.replication import NodeRole, NodeView, ReplicationReport, Risk
from ha_tasks.model.replication_findings import Finding, FindingCode, Severity

LAG_BYTES = 16 * 1024 * 1024
"""More than that behind is told; by default a replica that is 1 MiB behind after a break is copied anew."""
STATE = "asynchronous"
NONE = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisReading:
    """What a server says of itself. ``offset`` in bytes of the history ``replid``.

    ``link_up``, ``syncing`` (it is copied anew, and holds nothing whole meanwhile) and ``heard_s`` (seconds
    since its primary's last word; None: never) are a replica's. ``guarded``: a primary that refuses writes
    when too few replicas follow (``min-replicas-to-write``). ``priority`` 0: never to be promoted; of equals
    the lowest is.
    """

    node: str
    primary: bool
    replid: str
    offset: int
    link_up: bool = False
    syncing: bool = False
    heard_s: float | None = None
    guarded: bool = False
    priority: int = 100
    cluster: bool = False
    """Cluster mode: its nodes fail over among themselves."""


RedisAnswers: TypeAlias = Mapping[str, RedisReading | str]
"""Node -> what it said, or why nothing is known of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Who would be promoted, were there no primary: ``node`` NONE with ``why`` it is nobody."""

    node: str
    why: str


def choose_replica(replicas: Collection[RedisReading]) -> Choice:
    """The furthest whole replica of the one history that there is; of equals by priority, then by name.

    Nobody where two histories are held: which of them clients have written to, no offset tells. Nobody in
    cluster mode, where its nodes choose.
    """
    if any(r.cluster for r in replicas):
        return Choice(node=NONE, why="cluster mode: its nodes fail over among themselves")
    whole = [r for r in replicas if not r.primary and not r.syncing]
    able = [r for r in whole if r.priority > 0]
    if not able:
        copied = ", ".join(sorted(r.node for r in replicas if r.syncing))
        barred = ", ".join(sorted(r.node for r in whole))
        reasons = [
            f"{copied} is being copied" if copied else "",
            f"{barred} has priority 0" if barred else "",
        ]
        return Choice(node=NONE, why="; ".join(filter(None, reasons)) or "no replica answers")
    if len({r.replid for r in whole}) > 1:
        held = ", ".join(f"{r.node} {r.replid[:8]}" for r in sorted(whole, key=lambda r: r.node))
        return Choice(node=NONE, why=f"its replicas hold different histories ({held})")
    best = min(able, key=lambda r: (-r.offset, r.priority, r.node))
    return Choice(node=best.node, why=f"the furthest of {len(able)}, at offset {best.offset}")


def follows(replica: RedisReading, primary: RedisReading) -> bool:
    """It is fed by that primary: its link is up, and it holds the same history."""
    return (
        not replica.primary and replica.link_up and not replica.syncing and replica.replid == primary.replid
    )


def report(service: str, answers: RedisAnswers, led: str = "") -> ReplicationReport:
    """The picture, in the order of ``answers``. ``led``: who promotes in our place, and how; '': nobody does.

    Where somebody does, no remedy has a person promote beside him.
    """
    said = {name: each for name, each in answers.items() if isinstance(each, RedisReading)}
    leading = [each for each in said.values() if each.primary]
    primary = leading[0] if len(leading) == 1 else None
    missing = tuple(
        name
        for name, each in answers.items()
        if primary is not None
        and name != primary.node
        and not (isinstance(each, RedisReading) and follows(each, primary))
    )
    findings = tuple(_findings(answers, said, leading, led))
    return ReplicationReport(
        service=service,
        primary=None if primary is None else primary.node,
        state=STATE,
        epoch=None,
        recorded=(),
        in_force=None,
        ok=primary is not None and not missing,
        missing=missing,
        risk=_risk(said, primary),
        nodes=tuple(_view(name, each, primary) for name, each in answers.items()),
        findings=findings,
        kind=ServiceKind.REDIS,
    )


def _risk(said: Mapping[str, RedisReading], primary: RedisReading | None) -> Risk:
    if primary is None:
        return Risk(certainty="unknown", bytes=None, seconds=None, why="no single primary answers")
    fed = [r for r in said.values() if follows(r, primary)]
    if not fed:
        why = f"no replica follows {primary.node}"
        return Risk(certainty="unknown", bytes=None, seconds=None, why=why)
    choice = choose_replica(fed)
    if choice.node == NONE:
        return Risk(certainty="unknown", bytes=None, seconds=None, why=choice.why)
    behind = max(0, primary.offset - said[choice.node].offset)
    why = f"{choice.node} would be promoted; asynchronous, so measured at this look, never promised"
    return Risk(certainty="measured", bytes=behind, seconds=None if behind else 0.0, why=why)


def _view(name: str, said: RedisReading | str, primary: RedisReading | None) -> NodeView:
    if isinstance(said, str):
        return NodeView(node=name, role=NodeRole.SILENT, trouble=said)
    if said.primary:
        return NodeView(node=name, role=NodeRole.PRIMARY, lsn=said.offset)
    fed = primary is not None and follows(said, primary)
    behind = max(0, primary.offset - said.offset) if primary is not None and fed else None
    return NodeView(
        node=name,
        role=NodeRole.STANDBY,
        upstream=primary.node if primary is not None and fed else None,
        lsn=said.offset,
        behind=behind,
        lag_s=0.0 if behind == 0 else None,
        state="copied" if said.syncing else "follows" if fed else "follows nobody",
        silent_s=said.heard_s,
    )


def _findings(
    answers: RedisAnswers, said: Mapping[str, RedisReading], leading: Collection[RedisReading], led: str
) -> Iterator[Finding]:
    for name, each in answers.items():
        if isinstance(each, str):
            yield _finding(
                FindingCode.SILENT,
                Severity.WARNING,
                name,
                f"does not answer: {each}",
                "look at it on its host",
            )
    if any(each.cluster for each in said.values()):
        yield _finding(
            FindingCode.CLUSTER_MODE,
            Severity.WARNING,
            NONE,
            "runs in cluster mode: its nodes shard the keys and fail over among themselves",
            'take "replicated" out of [services.NAME.redis] and write managed_by = "external"',
        )
        return
    if len(leading) > 1:
        names = " and ".join(sorted(each.node for each in leading))
        yield _finding(
            FindingCode.TWO_PRIMARIES,
            Severity.CRITICAL,
            NONE,
            f"{names} both take writes, and what one gets the other never has",
            led
            or "keep the one that clients write to; on the other: save its data if it has writes of its own, "
            "then REPLICAOF <host> <port> of the first, which replaces what it holds",
        )
    if said and not leading:
        yield _nobody_writes(said, led)
    if len(leading) == 1:
        yield from _of_replicas(said, next(iter(leading)))


def _nobody_writes(said: Mapping[str, RedisReading], led: str) -> Finding:
    choice = choose_replica(list(said.values()))
    back = (
        "bring the primary back, unless it keeps nothing on disk: then it comes back empty, and its "
        "replicas are emptied after it"
    )
    remedy = (
        f"{back}; else, once it is ended for certain, on {choice.node} ({choice.why}): REPLICAOF NO ONE, and "
        "lead the clients there; what the primary had beyond that is lost, and unknown"
        if choice.node
        else f"{back}; nobody can be promoted: {choice.why}"
    )
    problem = "nobody takes writes: every server that answers is a replica"
    return _finding(FindingCode.NOBODY_WRITES, Severity.CRITICAL, NONE, problem, led or remedy)


def _of_replicas(said: Mapping[str, RedisReading], primary: RedisReading) -> Iterator[Finding]:
    for each in said.values():
        if each.primary:
            continue
        if not follows(each, primary):
            yield _finding(FindingCode.LINK_DOWN, Severity.WARNING, each.node, _why_not(each, primary), _LINK)
        elif (behind := primary.offset - each.offset) > LAG_BYTES:
            problem = f"is {behind} bytes behind {primary.node}: a failover to it would lose them"
            remedy = "look for a slow network, or a replica that is busy or short of memory"
            yield _finding(FindingCode.LAG, Severity.WARNING, each.node, problem, remedy)
    if len(said) > 1 and not primary.guarded:
        yield _finding(
            FindingCode.UNGUARDED,
            Severity.NOTE,
            primary.node,
            "acknowledges writes also while no replica follows: cut off, it would go on beside a new primary",
            "set min-replicas-to-write 1 and min-replicas-max-lag 10 on every server; with one replica only, "
            "writes then stop while that one is away",
        )


_LINK = "INFO replication there says why; its primary's address, password (masterauth) and network"


def _why_not(replica: RedisReading, primary: RedisReading) -> str:
    if replica.syncing:
        return "is being copied from its primary, and holds nothing whole until then"
    if not replica.link_up:
        return "its link to the primary is down"
    return f"holds another history than {primary.node}: it follows somebody else"


def _finding(code: FindingCode, severity: Severity, node: str, problem: str, remedy: str) -> Finding:
    return Finding(code=code, severity=severity, node=node, problem=problem, remedy=remedy)
