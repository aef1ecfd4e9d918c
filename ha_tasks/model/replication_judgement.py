"""What is wrong about a cluster's replication, and what would be lost now. Pure.

A finding is about this moment; whoever tells of it waits until it has lasted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ha_tasks.model.cluster import Cluster, SyncSet
from ha_tasks.model.replication import (
    Answers,
    NodeReading,
    NodeRole,
    NodeView,
    NodeWord,
    ReplicationReport,
    Risk,
    divergence,
    streaming_of,
    views,
)
from ha_tasks.model.replication_findings import Finding, FindingCode, Severity
from ha_tasks.model.replication_slots import slot_findings
from ha_tasks.model.standing import WAITS, standing_findings

SILENT_S = 10.0
LAG_S = 30.0
LAG_BYTES = 256 * 1024 * 1024
_NAME = re.compile(r'"((?:[^"]|"")+)"|([^\s,()"]+)')
_PASSING = frozenset({"pg_basebackup", "pg_receivewal", "pg_rewind"})
"""Names under which tools stream that are nobody's standby."""

_CRITICAL, _WARNING, _NOTE = Severity.CRITICAL, Severity.WARNING, Severity.NOTE


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFacts:
    """What is judged. ``addresses``: node -> host:port; ``cluster`` None: it is not in care."""

    service: str
    answers: Answers
    addresses: Mapping[str, str]
    cluster: Cluster | None = None
    words: Mapping[str, NodeWord] = field(default_factory=dict)
    ours: bool = True

    @property
    def readings(self) -> list[NodeReading]:
        """Those that answered."""
        return [said for said in self.answers.values() if isinstance(said, NodeReading)]

    @property
    def primaries(self) -> list[NodeReading]:
        """Those that take writes by their own word."""
        return [said for said in self.readings if not said.in_recovery]

    @property
    def head(self) -> NodeReading | None:
        """The primary: the recorded one if it takes writes, else the only one that does; None: unclear."""
        recorded = [p for p in self.primaries if self.cluster and p.node == self.cluster.primary]
        known = recorded or self.primaries
        return known[0] if len(known) == 1 else None


def report(facts: ClusterFacts) -> ReplicationReport:
    """The whole picture."""
    head, cluster = facts.head, facts.cluster
    sets = () if cluster is None else cluster.sets
    streaming = streaming_of(head)
    seen = views(facts.answers, facts.addresses, head.node if head else None)
    recorded = cluster.primary if cluster else None
    primary = head.node if head else recorded
    return ReplicationReport(
        service=facts.service,
        primary=primary,
        state="not in care" if cluster is None else str(cluster.state),
        epoch=None if cluster is None else cluster.epoch,
        recorded=tuple(s.setting() for s in sets),
        in_force=None if head is None else head.settings.get("synchronous_standby_names", ""),
        ok=bool(sets) and all(s.quorum > 0 and len(streaming & set(s.members)) >= s.quorum for s in sets),
        missing=tuple(name for name in facts.answers if name != primary and not _follows(name, facts)),
        risk=risk(facts, seen),
        nodes=seen,
        findings=tuple(findings(facts, seen)),
        recorded_primary=recorded,
    )


def _follows(name: str, facts: ClusterFacts) -> bool:
    """Streams from the primary, or from whoever feeds it."""
    return any(name in streaming_of(said) for said in facts.readings)


def risk(facts: ClusterFacts, seen: tuple[NodeView, ...]) -> Risk:
    """What would be lost if the primary vanished now."""
    head = facts.head
    if head is None:
        return Risk(certainty="unknown", bytes=None, seconds=None, why="no primary could be asked")
    if len(facts.primaries) > 1:
        return Risk(certainty="unknown", bytes=None, seconds=None, why="more than one node takes writes")
    doubt = _unproven(facts, head)
    if not doubt:
        return Risk(certainty="proven", bytes=0, seconds=0.0, why="every commit waits for the recorded set")
    near = [v for v in seen if v.role is NodeRole.STANDBY and v.behind is not None and v.state == "streaming"]
    if not near:
        return Risk(certainty="unknown", bytes=None, seconds=None, why=f"{doubt}; no standby streams")
    best = min(near, key=lambda view: (view.behind or 0, view.node))
    seconds = 0.0 if not best.behind else best.lag_s
    return Risk(certainty="measured", bytes=best.behind, seconds=seconds, why=doubt)


def _unproven(facts: ClusterFacts, head: NodeReading) -> str:
    """Why an acknowledged commit may be on the primary alone; '' when that cannot be."""
    if facts.cluster is None:
        return "it is not in care: no set is recorded"
    sets = facts.cluster.sets
    if not sets or any(not s.quorum for s in sets):
        return "by the record, commits wait for nobody"
    in_force = parse_sync_names(head.settings.get("synchronous_standby_names", ""))
    if in_force not in sets:
        return "the primary waits for others than those recorded"
    if head.settings.get("synchronous_commit", "on") not in WAITS:
        return "synchronous_commit is weakened for everybody"
    weak = any(w.value not in WAITS for w in head.weakened)
    return "synchronous_commit is weakened for some" if weak else ""


def parse_sync_names(text: str) -> SyncSet | None:
    """``synchronous_standby_names`` as a set of which a number must confirm; None: by order, or anybody.

    ``FIRST n`` and a bare list prefer who comes first; with n of n both mean the same.
    """
    if not text.strip():
        return SyncSet(quorum=0, members=())
    found = re.fullmatch(r"\s*(ANY|FIRST)?\s*(\d+)\s*\((.*)\)\s*", text, re.IGNORECASE | re.DOTALL)
    method, number, listed = found.groups() if found else ("FIRST", "1", text)
    names = tuple(sorted({a.replace('""', '"') or b.lower() for a, b in _NAME.findall(listed)}))
    quorum = int(number)
    if "*" in names or quorum > len(names):
        return None
    if (method or "FIRST").upper() != "ANY" and quorum < len(names):
        return None
    return SyncSet(quorum=quorum, members=names)


def findings(facts: ClusterFacts, seen: tuple[NodeView, ...]) -> Iterator[Finding]:
    """Everything that is wrong, the cluster first, then each node in its order."""
    yield from _roles(facts)
    if facts.head is not None and facts.ours:
        yield from _synchronous(facts, facts.head)
    for view in seen:
        said = facts.answers[view.node]
        if isinstance(said, str):
            text = "does it run, and may we log in? ha-tasks check --connect says what mends it"
            yield _about(view.node, FindingCode.SILENT, _WARNING, f"cannot be asked: {said}", text)
            continue
        yield from _kinship(facts, said)
        yield from _following(facts, said, view)
        yield from _senders(facts, said)
        yield from slot_findings(said, facts.answers, ours=facts.ours)
        yield from standing_findings(said, ours=facts.ours)
        yield from _program(said, facts.words.get(view.node, NodeWord()))


def _about(
    node: str, code: FindingCode, severity: Severity, problem: str, remedy: str, *, subject: str = ""
) -> Finding:
    return Finding(code=code, severity=severity, node=node, problem=problem, remedy=remedy, subject=subject)


def _roles(facts: ClusterFacts) -> Iterator[Finding]:
    names = [said.node for said in facts.primaries]
    if len(names) > 1:
        yield _about(
            "",
            FindingCode.TWO_PRIMARIES,
            _CRITICAL,
            f"{' and '.join(names)} take writes: two primaries",
            "stop the wrong one at once, and rebuild it as a standby: docs/runbooks/two-primaries.md",
        )
    recorded = facts.cluster.primary if facts.cluster else None
    if recorded is not None and names and recorded not in names:
        yield _about(
            "",
            FindingCode.TWO_PRIMARIES,
            _CRITICAL,
            f"{', '.join(names)} takes writes, and the recorded primary is {recorded}",
            f"stop {names[0]}, or let ha-tasks end what is under way: ha-tasks status",
        )
    if not names and not any(isinstance(said, str) for said in facts.answers.values()):
        yield _about("", FindingCode.NO_PRIMARY, _CRITICAL, "no node takes writes", "see: ha-tasks status")


def _synchronous(facts: ClusterFacts, head: NodeReading) -> Iterator[Finding]:
    text = head.settings.get("synchronous_standby_names", "")
    sets, in_force = (facts.cluster.sets if facts.cluster else ()), parse_sync_names(text)
    wanted = sets[-1].setting() if sets else ""
    reset = _reset(facts, wanted)
    if "*" in text:
        yield _about(
            head.node,
            FindingCode.ANY_SYNC_STANDBY,
            _CRITICAL,
            f"synchronous_standby_names = '{text}': whoever connects confirms commits, so nobody can tell "
            "who has them",
            reset,
        )
    elif in_force is not None and not in_force.quorum and not any(s.quorum for s in sets):
        yield _about(
            head.node,
            FindingCode.NO_SYNC_STANDBY,
            _WARNING,
            "no standby is synchronous: a failover may lose commits, so none is made under durability",
            reset,
        )
    elif sets and in_force not in sets:
        yield _about(
            head.node,
            FindingCode.SYNC_SET_DIFFERS,
            _CRITICAL,
            f"synchronous_standby_names = '{text}', and recorded is '{wanted}'",
            reset,
        )
    streaming = streaming_of(head)
    for each in sets:
        short = each.quorum - len(streaming & set(each.members))
        if short > 0:
            yield _about(
                head.node,
                FindingCode.REDUNDANCY_MISSING,
                _CRITICAL,
                f"commits wait: {short} more of {', '.join(each.members)} must stream",
                f"bring a standby back; see: ha-tasks replication {facts.service}",
            )
            break


def _reset(facts: ClusterFacts, wanted: str) -> str:
    """Who sets it is the control plane, under its epoch."""
    if facts.cluster is None:
        return f"take it into care, which sets it: ha-tasks adopt {facts.service}"
    if not wanted:
        return "bring a standby back: the rejoin puts it into the set"
    return f"take by hand nothing but this: ALTER SYSTEM RESET synchronous_standby_names; set is '{wanted}'"


def _kinship(facts: ClusterFacts, said: NodeReading) -> Iterator[Finding]:
    head = facts.head or next(iter(facts.primaries), None)
    if head is None or said.node == head.node:
        return
    if said.system_identifier != head.system_identifier:
        yield _about(
            said.node,
            FindingCode.OTHER_SYSTEM,
            _CRITICAL,
            f"is of another cluster: system identifier {said.system_identifier}, {head.node} has "
            f"{head.system_identifier}",
            f"is services.{facts.service}.instances.{said.node}.address right? else copy it anew",
        )
        return
    word, own = facts.words.get(head.node, NodeWord()), facts.words.get(said.node, NodeWord())
    apart = divergence(head, said, history=word.history, own=own.history)
    if apart:
        yield _about(
            said.node,
            FindingCode.DIVERGED,
            _CRITICAL,
            apart,
            f"rejoin it: ha-tasks recover {facts.service} --instance {said.node}",
        )


def _following(facts: ClusterFacts, said: NodeReading, view: NodeView) -> Iterator[Finding]:
    if not said.in_recovery:
        return
    receiver = said.receiver
    if receiver is None:
        text = "has no WAL receiver: it follows nobody"
        remedy = "look into its log; is primary_conninfo right, is WAL missing?"
        yield _about(said.node, FindingCode.NOT_FOLLOWING, _WARNING, text, remedy)
        return
    if receiver.silent_s is not None and receiver.silent_s > SILENT_S:
        text = f"has heard nothing from {view.upstream or receiver.upstream} for {receiver.silent_s:.0f} s"
        remedy = "is the network in between well? wal_receiver_timeout ends such a connection"
        yield _about(said.node, FindingCode.RECEIVER_SILENT, _WARNING, text, remedy)
    if not receiver.slot and facts.ours:
        yield _about(
            said.node,
            FindingCode.NO_SLOT,
            _WARNING,
            "streams without a slot: WAL that it needs may be removed while it is away",
            f"rejoin it: ha-tasks recover {facts.service} --instance {said.node}",
        )
    late = view.lag_s is not None and view.lag_s > LAG_S
    if late or (view.behind or 0) > LAG_BYTES:
        shown = "an unknown time" if view.lag_s is None else f"{view.lag_s:.0f} s"
        yield _about(
            said.node,
            FindingCode.LAG,
            _WARNING,
            f"is behind by {shown}, {view.to_replay or view.behind or 0} bytes are not replayed",
            "see what holds replay or the network: pg_stat_activity there, pg_stat_replication upstream",
        )


def _senders(facts: ClusterFacts, said: NodeReading) -> Iterator[Finding]:
    counted = Counter(sender.name for sender in said.senders)
    for name in sorted(counted):
        if name in facts.answers:
            if counted[name] > 1:
                yield _about(
                    said.node,
                    FindingCode.TWO_SENDERS,
                    _CRITICAL,
                    f"{counted[name]} WAL senders bear the name {name}: one standby counts twice",
                    "give each standby its own application_name and its own slot; end the older sender",
                    subject=name,
                )
        elif name not in _PASSING:
            yield _about(
                said.node,
                FindingCode.STRANGER,
                _NOTE,
                f'feeds "{name}", which no instance is called',
                "if it is a standby of ours, its application_name must be its instance's name",
                subject=name,
            )


def _program(said: NodeReading, word: NodeWord) -> Iterator[Finding]:
    """An upgrade of the package does not reach a server that runs."""
    on_disk = version_number(word.binary)
    if on_disk is not None and on_disk != said.version:
        running = f"{said.version // 10000}.{said.version % 10000}"
        yield _about(
            said.node,
            FindingCode.OLD_BINARY,
            _NOTE,
            f"runs {running}, and {word.binary} is on its disk",
            "restart it when it suits, standbys first",
        )


def version_number(text: str) -> int | None:
    """``15.13`` -> 150013, as server_version_num says it; None for what is no released version."""
    found = re.fullmatch(r"(\d+)\.(\d+)", text)
    return int(found[1]) * 10000 + int(found[2]) if found else None
