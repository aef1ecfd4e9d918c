#!/usr/bin/env python3
"""Judges how many branches of the decisions the tests took: `branch_coverage.py FILE.json PERCENT`.

FILE.json is what `coverage json` writes. Only branches count: a line that ran proves less than a choice
that was taken both ways. Exit status 1 when fewer than PERCENT of them were taken.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def taken(summary: dict[str, int]) -> float:
    """Percent of the branches; 100 where there are none."""
    if not summary["num_branches"]:
        return 100.0
    return 100.0 * summary["covered_branches"] / summary["num_branches"]


def main(arguments: list[str]) -> int:
    """Prints the total and each file below the bar."""
    report = json.loads(Path(arguments[0]).read_text())
    wanted = float(arguments[1])
    for name, file in sorted(report["files"].items()):
        if taken(file["summary"]) < wanted:
            missing = ", ".join(f"{a}->{b}" for a, b in file["missing_branches"])
            print(f"  {taken(file['summary']):5.1f} %  {name}  not taken: {missing}")
    total, summary = taken(report["totals"]), report["totals"]
    verdict = "at least" if total >= wanted else "fewer than"
    counted = f"{summary['covered_branches']} of {summary['num_branches']}"
    print(f"decisions: {counted} branches taken, {total:.1f} %, {verdict} {wanted:g} %")
    return 0 if total >= wanted else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
