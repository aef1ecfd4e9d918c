"""The tables of a contest. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tests.benchmarks.detector.contest import Played
from tests.benchmarks.detector.episodes import FAULTS


def share(part: int, of: int) -> str:
    """In percent."""
    return f"{100 * part / of:.2f}" if of else "-"


def nth(values: Sequence[float], quantile: float) -> str:
    """A quantile by the nearest rank; "-" of nothing."""
    if not values:
        return "-"
    ordered = sorted(values)
    return f"{ordered[min(len(ordered) - 1, int(quantile * len(ordered)))]:.2f}"


def row(name: str, mine: Sequence[Played]) -> list[str]:
    """One contender: how often it was right, and how soon."""
    healthy = [p for p in mine if p.fault is None]
    faulty = [p for p in mine if p.fault is not None]
    looped = [len(p.alarms_s) for p in faulty if p.fault == "crash loop"]
    times = []
    for fault in FAULTS:
        took = [p.took_s for p in faulty if p.fault == fault and p.took_s is not None]
        times.append(f"{nth(took, 0.5)}/{nth(took, 0.95)}")
    return [
        name,
        share(sum(p.right for p in mine), len(mine)),
        share(sum(p.right for p in faulty), len(faulty)),
        share(sum(not p.right for p in healthy), len(healthy)),
        *times,
        f"{sum(looped) / len(looped):.2f}" if looped else "-",
    ]


def table(played: Sequence[Played]) -> str:
    """Every contender's row; times are seconds from the fault to the alarm, median/p95."""
    names = list(dict.fromkeys(p.contender for p in played))
    heads = ["detector", "right %", "found %", "false %", *FAULTS, "alarms in a loop"]
    rows = [heads, *(row(name, [p for p in played if p.contender == name]) for name in names)]
    widths = [max(len(r[column]) for r in rows) for column in range(len(heads))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(r, widths, strict=True))
        )
        for r in rows
    )


def mistakes(played: Sequence[Played], name: str) -> str:
    """What one contender got wrong, by noise and fault."""
    wrong = [p for p in played if p.contender == name and not p.right]
    if not wrong:
        return f"{name}: nothing wrong"
    found = sorted(f"{p.noise}, {p.fault or 'healthy'}: {_said(p)}" for p in wrong)
    return f"{name}, wrong in {len(wrong)}:\n" + "\n".join(f"  {text}" for text in found)


def _said(played: Played) -> str:
    if not played.alarms_s:
        return "missed"
    return f"false, {played.alarms_s[0]:+.1f} s"
