"""What was seen of a cluster by which R + W > N over its recorded set proves nothing. Pure.

The rule holds for the set by which commits really wait. Where another one was in force, where whoever
connected could confirm (``*``), where a second node took writes, or where a member holds the data of another
system, a revoked quorum of the recorded set may lack rows that were acknowledged.

Such a doubt ends by what is seen, never by a clock: a look at the recorded primary itself that no longer
finds it, and where it was about the set, W members of each recorded set that have flushed as far as the
primary had when the set was right again. A primary that is dead cannot be looked at, so what was last known
of it stands, also when the picture that is kept is younger than its death. Another recorded primary ends it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ha_tasks.model.cluster import Cluster, ClusterState, SyncSet
from ha_tasks.model.plain import Json
from ha_tasks.model.replication import NodeRole, NodeView, ReplicationReport
from ha_tasks.model.replication_findings import Finding, FindingCode
from ha_tasks.model.replication_judgement import parse_sync_names
from ha_tasks.model.sync_change import is_being_put_back

OF_THE_SET = frozenset({FindingCode.ANY_SYNC_STANDBY, FindingCode.SYNC_SET_DIFFERS})
"""A recorded set that is empty proves nothing by itself, so ``no_sync_standby`` needs no doubt."""
EDITED = "edited"
"""Key of the doubt about a set that was edited and has been put back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """``primary``: the recorded one at which it was seen. ``node``: whom it is about, '' for the cluster.
    ``until``: LSN in bytes that a quorum must have flushed; None: the set is not right yet.
    """

    key: str
    primary: str
    node: str
    problem: str
    of_set: bool = False
    until: int | None = None

    def to_json(self) -> Json:
        """As plain JSON."""
        return asdict(self)


def read_doubts(picture: Mapping[str, Any]) -> tuple[Doubt, ...]:
    """Those of a picture that was kept; none of one that an older version has kept."""
    return tuple(Doubt(**doubt) for doubt in picture.get("doubts", ()))


def edited(primary: str) -> Doubt:
    """About a set that was not the recorded one until it was put back just now."""
    problem = (
        "its synchronous set was edited by hand, and not all that was committed is known to be on others"
    )
    return Doubt(key=EDITED, primary=primary, node=primary, problem=f"{primary}: {problem}", of_set=True)


def doubts(report: ReplicationReport, before: Iterable[Doubt] = ()) -> tuple[Doubt, ...]:
    """What is doubted after this look.

    While a failover is under way its disorder is its own: nothing is added, and nothing is over.
    """
    lead = report.recorded_primary
    mine = [d for d in before if d.primary == lead]
    if lead is None or report.state == ClusterState.FAILING:
        return tuple(mine)
    seen = {view.node: view for view in report.nodes if view.role is not NodeRole.SILENT}
    head = seen.get(lead)
    if head is not None and head.role is not NodeRole.PRIMARY:
        head = None
    sets = _sets(report)
    found = {f.key: _doubt(f, lead) for f in report.findings if _counts(f, head, sets)}
    left = [d for d in mine if d.key not in found]
    if head is not None:
        ending = [replace(d, until=head.lsn) if d.of_set and d.until is None else d for d in left]
        left = [d for d in ending if not _over(d, seen, sets)]
    return (*left, *found.values())


def standing(doubted: Iterable[Doubt], cluster: Cluster) -> tuple[str, ...]:
    """Why the recorded sets prove nothing now; empty also where they are no proof anyway."""
    if not cluster.sets or any(not s.quorum for s in cluster.sets):
        return ()
    begun = (edited(cluster.primary),) if is_being_put_back(cluster.sets) else ()
    told = [d.problem for d in (*begun, *doubted) if d.primary == cluster.primary]
    return tuple(dict.fromkeys(told))


def _sets(report: ReplicationReport) -> list[SyncSet]:
    return [s for text in report.recorded if (s := parse_sync_names(text)) is not None]


def _counts(finding: Finding, head: NodeView | None, sets: Sequence[SyncSet]) -> bool:
    """Of another system is who differs from the recorded primary, and could be counted in a quorum."""
    if finding.code is FindingCode.TWO_PRIMARIES:
        return True
    if head is None:
        return False
    if finding.code in OF_THE_SET:
        return finding.node == head.node
    return finding.code is FindingCode.OTHER_SYSTEM and any(finding.node in s.members for s in sets)


def _doubt(finding: Finding, lead: str) -> Doubt:
    return Doubt(
        key=finding.key,
        primary=lead,
        node=finding.node,
        problem=f"{finding.node}: {finding.problem}" if finding.node else finding.problem,
        of_set=finding.code in OF_THE_SET,
    )


def _over(doubt: Doubt, seen: Mapping[str, NodeView], sets: Sequence[SyncSet]) -> bool:
    """By a look at the recorded primary that has not found it again."""
    if not doubt.of_set:
        return not doubt.node or doubt.node in seen
    until = doubt.until or 0
    have = {name for name, view in seen.items() if view.lsn is not None and view.lsn >= until}
    return all(len(have & set(s.members)) >= s.quorum for s in sets)
