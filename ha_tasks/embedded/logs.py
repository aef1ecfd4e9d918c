"""Logs of processes: one file each, in which every start begins with a line of ours."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

MARK = "=== "
LIMIT_BYTES = 20 * 1024 * 1024
"""A log longer than that is put aside (``.1``) at the next start of its process."""


def begin(log: Path, name: str) -> None:
    """Marks the start of a process."""
    if log.exists() and log.stat().st_size > LIMIT_BYTES:
        log.replace(log.with_suffix(".log.1"))
    with log.open("a") as file:
        file.write(f"{MARK}{name} starts, {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n")


def last_lines(log: Path, lines: int) -> str:
    """The last lines since the latest start, indented; empty when there are none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16384))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    found = text.splitlines()
    starts = [number for number, line in enumerate(found) if line.startswith(MARK)]
    since_start = found[starts[-1] + 1 :] if starts else found
    return "\n".join("    " + line for line in since_start[-lines:] if line.strip())
