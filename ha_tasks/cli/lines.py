"""Lines for a person: text in parts, each with a style that shows on a terminal and nowhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TypeAlias

import click

Part: TypeAlias = str | tuple[str, str]
"""Text, or (text, style) in the words of rich."""

Line: TypeAlias = Sequence[Part]

GOOD, WARN, BAD, DIM, HEAD = "green", "yellow", "bold red", "dim", "bold"

_STYLES: Mapping[str, str] = {
    **dict.fromkeys(("available", "healthy", "steady", "succeeded", "done", "resolved", "ok", "PASS"), GOOD),
    **dict.fromkeys(("degraded", "suspect", "open", "recovering", "verifying", "running", "mitigated"), WARN),
    **dict.fromkeys(
        ("blocked", "unknown", "compensating", "failing", "INCONCLUSIVE", "kept", "undone"), WARN
    ),
    **dict.fromkeys(("suppressed", "awaiting_approval"), WARN),
    **dict.fromkeys(("unavailable", "failed", "escalated", "compensation_failed", "FAIL"), BAD),
    **dict.fromkeys(("rolled_back", "aborted", "undo_failed", "paused", "refused", "timeout", "error"), BAD),
}


def state(word: str) -> Part:
    """A state in the colour of what it means."""
    return (word, style_of(word))


def style_of(word: str) -> str:
    """The style of a state; empty for a word that is none."""
    return _STYLES.get(word, "")


def text_of(line: Line) -> str:
    """The line without its styles."""
    return "".join(part if isinstance(part, str) else part[0] for part in line).rstrip()


def show(lines: Iterable[Line]) -> None:
    """Prints lines: in colour on a terminal, as plain text anywhere else."""
    if not sys.stdout.isatty():
        for line in lines:
            click.echo(text_of(line))
        return
    # A tenth of a second to import, so only where it is seen.
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for line in lines:
        console.print(Text.assemble(*line))


def columns(heads: Sequence[str], rows: Sequence[Sequence[Part]]) -> list[Line]:
    """A table: every column but the last as wide as its widest cell, the heads dim; nothing without rows.

    Blanks behind the last one would be empty lines on a narrow terminal.
    """
    if not rows:
        return []
    table: list[Sequence[Part]] = [[(head, DIM) for head in heads], *rows]
    widths = [max(len(text_of([row[i]])) for row in table) for i in range(len(heads) - 1)]
    return [
        [*(part for cell, width in zip(row, widths, strict=False) for part in _padded(cell, width)), row[-1]]
        for row in table
    ]


def _padded(cell: Part, width: int) -> tuple[Part, str]:
    return cell, " " * (width - len(text_of([cell])) + 2)


def span(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``3 min 20 s``, ``2 h 5 min``, ``4 d 3 h``."""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    whole = int(seconds)
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def amount(count: int | None) -> str:
    """Bytes: ``0 B``, ``640 B``, ``1.4 MB``, ``12 GB``; ``-`` for None."""
    if count is None:
        return "-"
    for unit, size in (("TB", 1024**4), ("GB", 1024**3), ("MB", 1024**2), ("kB", 1024)):
        if count >= size:
            return f"{count / size:.{0 if count >= 10 * size else 1}f} {unit}"
    return f"{count} B"


def moment(at: str | None, now: str | None = None) -> str:
    """An ISO time as ``03:12:45``, with the date when that is not ``now``'s; ``-`` for None. UTC."""
    if at is None:
        return "-"
    told, today = datetime.fromisoformat(at), datetime.fromisoformat(now or at)
    return f"{told:%H:%M:%S}" if told.date() == today.date() else f"{told:%Y-%m-%d %H:%M:%S}"


def since(at: str, now: str) -> str:
    """How long ago an ISO time was."""
    return span((datetime.fromisoformat(now) - datetime.fromisoformat(at)).total_seconds())
