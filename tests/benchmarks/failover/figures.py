"""What a trial came to, its line in the file of results, and the table of many. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from statistics import median

from ha_tasks.model.load import Ack

COLUMNS = (
    "system",
    "fault",
    "runs",
    "back",
    "outage s: median / max",
    "new session s: median / max",
    "acked",
    "lost",
    "lost direct",
    "stale",
    "split brains",
)
BAR_WIDTH = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One fault on one system. Seconds; None: it did not come back, or that could not be told.

    ``outage_s``: fault to the end of the longest gap between acknowledgements of the writers through the
    balancer. ``new_session_s``: the same for a client that connects anew for every write. ``lost``: rows
    that those were given as committed and that are not there at the end; ``lost_direct``: of the writers
    that each go to one node past the balancer; ``stale``: acknowledged by an older timeline after a newer
    one had acknowledged.
    """

    system: str
    fault: str
    round: int
    outage_s: float | None
    new_session_s: float | None
    acked: int
    failed: int
    lost: int | None
    lost_direct: int | None
    stale: int
    primary: str
    successor: str | None
    began_at: str
    load_average: float
    version: str = ""

    @property
    def key(self) -> tuple[str, str, int]:
        """A trial of this key is not made twice."""
        return self.system, self.fault, self.round

    def to_line(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))


def trial_of(line: str) -> Trial:
    """The trial of a line; ValueError when it is none."""
    content = json.loads(line)
    known = {field.name for field in fields(Trial)}
    if not isinstance(content, dict) or not known - {"version"} <= content.keys() <= known:
        raise ValueError(f"no trial: {line[:80]}")
    return Trial(**content)


def longest_gap_s(acks: Iterable[Ack], since: datetime, until: datetime) -> float | None:
    """The longest time without an acknowledgement, from the fault on; None: it was still open at the end.

    Open at the end: the last stretch is the longest one, and longer than two seconds.
    """
    after = sorted(a.acked_at for a in acks if since < a.acked_at <= until)
    edges = [since, *after]
    gaps = [(b - a).total_seconds() for a, b in zip(edges, after, strict=False)]
    longest = max(gaps, default=0.0)
    still_open = (until - edges[-1]).total_seconds()
    return None if still_open > max(longest, 2.0) else longest


def lost_of(acks: Iterable[Ack], present: frozenset[tuple[int, int]] | None) -> int | None:
    """How many of these are not among the rows that were read back; None when they were not readable."""
    return None if present is None else sum((a.writer, a.seq) not in present for a in acks)


def table(trials: Sequence[Trial]) -> str:
    """Markdown: a line for each system and fault, in the order of their first trials by fault."""
    grouped: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        grouped.setdefault((trial.fault, trial.system), []).append(trial)
    order = {fault: place for place, fault in enumerate(dict.fromkeys(t.fault for t in trials))}
    rows = [_row(mine) for _, mine in sorted(grouped.items(), key=lambda item: order[item[0][0]])]
    head = [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])


def _row(mine: Sequence[Trial]) -> list[str]:
    back = [t.outage_s for t in mine if t.outage_s is not None]
    sessions = [t.new_session_s for t in mine if t.new_session_s is not None]
    return [
        mine[0].system,
        mine[0].fault,
        str(len(mine)),
        f"{len(back)}/{len(mine)}",
        _spread(back, len(mine)),
        _spread(sessions, len(mine)),
        str(sum(t.acked for t in mine)),
        _summed([t.lost for t in mine]),
        _summed([t.lost_direct for t in mine]),
        str(sum(t.stale for t in mine)),
        f"{sum(t.stale > 0 for t in mine)}/{len(mine)}",
    ]


def _spread(values: Sequence[float], runs: int) -> str:
    """Of those that came back; the maximum is open when one did not."""
    if not values:
        return "-"
    most = f"{max(values):.2f}" if len(values) == runs else "never"
    return f"{median(values):.2f} / {most}"


def _summed(values: Sequence[int | None]) -> str:
    """What could not be read back is said, never counted as nothing lost."""
    unread = sum(v is None for v in values)
    total = str(sum(v or 0 for v in values))
    return f"{total} ({unread} not read)" if unread else total


def bars(trials: Sequence[Trial]) -> str:
    """The median outage of each system and fault as a bar of text, on one scale."""
    outages: dict[tuple[str, str], list[float]] = {}
    for trial in trials:
        mine = outages.setdefault((trial.fault, trial.system), [])
        if trial.outage_s is not None:
            mine.append(trial.outage_s)
    medians = {key: median(values) for key, values in outages.items() if values}
    longest = max(medians.values(), default=0.0)
    lines: list[str] = []
    for fault in dict.fromkeys(fault for fault, _ in outages):
        lines.append(fault)
        for (which, system), value in medians.items():
            if which == fault:
                drawn = "█" * max(1, round(BAR_WIDTH * value / longest)) if longest else ""
                lines.append(f"  {system:22} {drawn} {value:.2f} s")
    return "\n".join(lines)
