"""What the servers of a PostgreSQL cluster say of their replication, and what that comes to. Pure values.

LSNs and amounts of WAL are bytes, times seconds. None: the server does not say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Literal, TypeAlias

from ha_tasks.model.plain import Json
from ha_tasks.model.platform import ServiceKind
from ha_tasks.model.replication_findings import Finding

History: TypeAlias = Sequence[tuple[int, int]]
"""Where older timelines were left, oldest first: (timeline, LSN)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """A row of pg_stat_replication: one connection over which a standby is fed.

    ``sync_state`` is what the asking session's configuration calls it; it proves nothing.
    """

    name: str
    state: str
    sync_state: str
    sent: int | None = None
    written: int | None = None
    flushed: int | None = None
    replayed: int | None = None
    flush_lag_s: float | None = None
    replay_lag_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A replication slot and the WAL that is kept for it.

    ``wal_status``: reserved, extended, unreserved or lost. ``room``: how much more may be written before
    it is lost; None: without limit.
    """

    name: str
    physical: bool
    active: bool
    wal_status: str | None = None
    holds: int | None = None
    room: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """A standby's WAL receiver; ``upstream`` is ``host:port``, ``silent_s`` since the last message."""

    status: str
    upstream: str
    slot: str
    silent_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Weakening:
    """``synchronous_commit`` of a role, a database or both ('' : any) that waits for less."""

    role: str
    database: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReading:
    """What one server said in one answer. ``lsn``: flushed on a primary, received or replayed elsewhere."""

    node: str
    system_identifier: str
    version: int
    """As server_version_num: 150013."""
    in_recovery: bool
    timeline: int
    lsn: int
    replayed: int | None = None
    replayed_ago_s: float | None = None
    """Since the last transaction that was replayed; large on an idle cluster, which is no lag."""
    receiver: Receiver | None = None
    senders: tuple[Sender, ...] = ()
    slots: tuple[Slot, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    """In the base unit of each: milliseconds, megabytes."""
    pending_restart: tuple[str, ...] = ()
    """Settings that a restart would change."""
    weakened: tuple[Weakening, ...] = ()
    lacking: tuple[str, ...] = ()
    """Rights that the control role does not have, as the statements that would give them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeWord:
    """What a node's agent adds: where older timelines were left (None: unknown), the program on disk."""

    history: History | None = None
    binary: str = ""


Answers: TypeAlias = Mapping[str, NodeReading | str]
"""Node -> what it said, or why nothing is known of it."""


class NodeRole(StrEnum):
    """What a server is by its own word; SILENT: it said nothing."""

    PRIMARY = "primary"
    STANDBY = "standby"
    SILENT = "silent"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """One node of the picture. ``behind``: WAL of the primary that it has not flushed, ``to_replay``: not
    replayed. ``lag_s``: age of what it has not replayed; 0 when it has replayed everything.
    """

    node: str
    role: NodeRole
    upstream: str | None = None
    timeline: int | None = None
    lsn: int | None = None
    behind: int | None = None
    to_replay: int | None = None
    lag_s: float | None = None
    state: str = ""
    sync_state: str = ""
    silent_s: float | None = None
    slots: tuple[Slot, ...] = ()
    """Those that others stream through, or should."""
    trouble: str = ""


Certainty: TypeAlias = Literal["proven", "measured", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """What would be lost if the primary vanished now. PROVEN: nothing, every acknowledged commit waits for
    the set; MEASURED: what the furthest standby lacks; UNKNOWN: no standby could be asked.
    """

    certainty: Certainty
    bytes: int | None
    seconds: float | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicationReport:
    """``ok``: the quorum of the recorded synchronous set streams, so a failover would lose nothing.

    ``recorded``: the settings that the store wants, one for each set that stands; ``in_force``: the
    primary's own. ``missing``: instances that do not stream.
    """

    service: str
    primary: str | None
    state: str
    epoch: int | None
    recorded: tuple[str, ...]
    in_force: str | None
    ok: bool
    missing: tuple[str, ...]
    risk: Risk
    nodes: tuple[NodeView, ...]
    findings: tuple[Finding, ...]
    recorded_primary: str | None = None
    """By the store; None: it is not in care."""
    kind: ServiceKind = ServiceKind.POSTGRES
    """Of REDIS positions are offsets, and there are no timelines, sets and slots."""

    def to_json(self) -> Json:
        """The report as plain JSON."""
        return {**asdict(self), "findings": [finding.to_json() for finding in self.findings]}


def upstream_of(node: str, answers: Answers, addresses: Mapping[str, str]) -> str | None:
    """Who feeds ``node``: who has a sender of its name, else by its receiver's address; None: nobody."""
    for name, said in answers.items():
        if isinstance(said, NodeReading) and any(s.name == node for s in said.senders):
            return name
    own = answers.get(node)
    if isinstance(own, NodeReading) and own.receiver is not None:
        of = {address: name for name, address in addresses.items()}
        return of.get(own.receiver.upstream, own.receiver.upstream)
    return None


def views(answers: Answers, addresses: Mapping[str, str], primary: str | None) -> tuple[NodeView, ...]:
    """Every node, in the order of ``answers``, measured against ``primary``."""
    head = answers.get(primary or "")
    end = head if isinstance(head, NodeReading) and not head.in_recovery else None
    return tuple(
        NodeView(node=name, role=NodeRole.SILENT, trouble=said)
        if isinstance(said, str)
        else _view(said, end, upstream_of(name, answers, addresses), _sender(name, answers))
        for name, said in answers.items()
    )


def _sender(node: str, answers: Answers) -> Sender | None:
    readings = [said for said in answers.values() if isinstance(said, NodeReading)]
    return next((s for said in readings for s in said.senders if s.name == node), None)


def _view(
    said: NodeReading, end: NodeReading | None, upstream: str | None, sender: Sender | None
) -> NodeView:
    if not said.in_recovery:
        return NodeView(
            node=said.node, role=NodeRole.PRIMARY, timeline=said.timeline, lsn=said.lsn, slots=said.slots
        )
    behind = None if end is None else max(0, end.lsn - said.lsn)
    to_replay = None if end is None or said.replayed is None else max(0, end.lsn - said.replayed)
    return NodeView(
        node=said.node,
        role=NodeRole.STANDBY,
        upstream=upstream,
        timeline=said.timeline,
        lsn=said.lsn,
        behind=behind,
        to_replay=to_replay,
        lag_s=lag_s(to_replay, sender, said.replayed_ago_s),
        state=sender.state if sender else (said.receiver.status if said.receiver else ""),
        sync_state=sender.sync_state if sender else "",
        silent_s=said.receiver.silent_s if said.receiver else None,
        slots=said.slots,
    )


def lag_s(to_replay: int | None, sender: Sender | None, replayed_ago_s: float | None) -> float | None:
    """How old what a standby has not replayed is.

    The age of the last replayed transaction grows while nothing is written, so it counts only while
    something is known to be missing, and only where the sender has measured nothing.
    """
    if to_replay == 0:
        return 0.0
    measured = sender.replay_lag_s if sender is not None and sender.state == "streaming" else None
    return replayed_ago_s if measured is None else measured


def divergence(
    primary: NodeReading, node: NodeReading, *, history: History | None, own: History | None
) -> str:
    """How a node's timelines go apart from the primary's; '' when they do not, or nothing is known of it.

    ``history``: the primary's, ``own``: the node's. Numbers of timelines prove nothing: two promotions can
    make the same one. Histories do, where they are known.
    """
    return next(_ways_apart(primary, node, history, own), "")


def _ways_apart(
    primary: NodeReading, node: NodeReading, history: History | None, own: History | None
) -> Iterator[str]:
    if node.timeline > primary.timeline:
        yield f"is on timeline {node.timeline}, which the primary (timeline {primary.timeline}) never had"
    if node.timeline == primary.timeline:
        yield from _ahead(primary, node)
    if history is None:
        return
    left: dict[int, int | None] = {**dict(history), primary.timeline: None}
    yield from _forks(left, own or ())
    until = left.get(node.timeline)
    if node.timeline not in left:
        yield f"is on timeline {node.timeline}, which the primary never had"
    elif until is not None and node.lsn > until:
        yield f"has {node.lsn - until} bytes of timeline {node.timeline} that the primary never had"


def _ahead(primary: NodeReading, node: NodeReading) -> Iterator[str]:
    """The two were not asked at the very same time: one that is fed may have got more since."""
    fed = node.receiver is not None or any(sender.name == node.node for sender in primary.senders)
    if node.in_recovery and not fed and node.lsn > primary.lsn:
        yield f"has {node.lsn - primary.lsn} bytes more than the primary"


def _forks(left: Mapping[int, int | None], own: History) -> Iterator[str]:
    for timeline, lsn in own:
        if timeline not in left:
            yield f"comes from timeline {timeline}, which the primary never had"
        elif left[timeline] not in (None, lsn):
            yield f"left timeline {timeline} elsewhere than the primary did"


def streaming_of(primary: NodeReading | None) -> frozenset[str]:
    """Names of the standbys that stream from it."""
    senders: Collection[Sender] = () if primary is None else primary.senders
    return frozenset(s.name for s in senders if s.state == "streaming")
