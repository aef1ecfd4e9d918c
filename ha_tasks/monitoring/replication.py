"""Replication as the latest probes saw it: primaries, standbys, lag, timelines. Pure.

Nothing is asked of a server at scrape time; a cluster that nobody has probed lately has no numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ha_tasks.model.probe import ProbeOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """How far a standby is behind. ``seconds``: at most one probe interval too much."""

    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicationView:
    """One cluster. ``lags`` is empty unless exactly one node believes it is primary."""

    primaries: int
    standbys_ready: int
    timelines: Mapping[str, int] = field(default_factory=dict)
    lags: Mapping[str, Lag] = field(default_factory=dict)


def view(
    outcomes: Sequence[ProbeOutcome], now: datetime, fresh_s: float, members: frozenset[str] | None
) -> ReplicationView | None:
    """The cluster by outcomes of its nodes, oldest first; None when nobody has looked for ``fresh_s``.

    ``members``: standbys whose acknowledgement commits wait for; another one could lose a write. None:
    it is not recorded which they are.
    """
    fresh_after = now - timedelta(seconds=fresh_s)
    if not any(o.sent_at >= fresh_after for o in outcomes):
        return None
    nodes = _answering(o for o in outcomes if o.sent_at >= fresh_after)
    primaries = [o for o in nodes.values() if o.facts.get("in_recovery") is False]
    primary = primaries[0] if len(primaries) == 1 else None
    ready = [o for o in nodes.values() if _ready(o, primary, members)]
    return ReplicationView(
        primaries=len(primaries),
        standbys_ready=len(ready),
        timelines={n: o.facts["timeline"] for n, o in nodes.items() if _number(o, "timeline")},
        lags={} if primary is None else _lags(primary, nodes, outcomes),
    )


def _answering(outcomes: Iterable[ProbeOutcome]) -> dict[str, ProbeOutcome]:
    """Latest good outcome of each node that at least one vantage reached with its latest probe."""
    latest: dict[tuple[str, str], ProbeOutcome] = {}
    for outcome in outcomes:
        latest[outcome.target.instance, outcome.vantage] = outcome
    nodes: dict[str, ProbeOutcome] = {}
    for outcome in sorted(latest.values(), key=lambda o: o.sent_at):
        if outcome.ok:
            nodes[outcome.target.instance] = outcome
    return nodes


def _ready(node: ProbeOutcome, primary: ProbeOutcome | None, members: frozenset[str] | None) -> bool:
    """It replays, receives, is on the primary's timeline, and its acknowledgement counts."""
    facts = node.facts
    if facts.get("in_recovery") is not True or not facts.get("receiving"):
        return False
    if primary is not None and facts.get("timeline") != primary.facts.get("timeline"):
        return False
    return members is None or node.target.instance in members


def _lags(
    primary: ProbeOutcome, nodes: Mapping[str, ProbeOutcome], outcomes: Sequence[ProbeOutcome]
) -> dict[str, Lag]:
    name = primary.target.instance
    written = [o for o in outcomes if o.target.instance == name and o.ok and _number(o, "lsn")]
    standbys = {n: o for n, o in nodes.items() if n != name and _number(o, "lsn")}
    if not written:
        return {}
    end = max(o.facts["lsn"] for o in written)
    return {
        n: Lag(bytes=max(0, end - o.facts["lsn"]), seconds=_behind_s(o, written)) for n, o in standbys.items()
    }


def _behind_s(standby: ProbeOutcome, written: Sequence[ProbeOutcome]) -> float:
    """Seconds since the primary last stood where the standby stands; 0 when nothing was written since.

    When even the oldest known position is beyond the standby, the lag is at least the time since then.
    """
    before = [o for o in written if o.sent_at <= standby.sent_at]
    missing = [o for o in before if o.facts["lsn"] > standby.facts["lsn"]]
    if not missing:
        return 0.0
    had = [o.sent_at for o in before if o.facts["lsn"] <= standby.facts["lsn"]]
    return (standby.sent_at - max(had, default=missing[0].sent_at)).total_seconds()


def _number(outcome: ProbeOutcome, fact: str) -> bool:
    return isinstance(outcome.facts.get(fact), int)
