"""The written pages, and what can be read off them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)


def pages() -> list[Path]:
    """Every markdown page of the project."""
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def name(page: Path) -> str:
    """How a page is called in a failure."""
    return page.relative_to(ROOT).as_posix()


def links(page: Path) -> list[str]:
    """Targets of the links that do not lead away from the project."""
    prose = _FENCED.sub("", page.read_text())
    return [t for t in _LINK.findall(prose) if "://" not in t and not t.startswith("mailto:")]


def code_spans(page: Path) -> list[str]:
    """What stands between single backticks."""
    return _CODE.findall(_FENCED.sub("", page.read_text()))


def commands(page: Path, program: str) -> Iterator[str]:
    """The first word after ``program``, wherever a code span or a fenced line has it as a command."""
    text = page.read_text()
    lines = [line for block in _FENCED.findall(text) for line in block.splitlines()]
    call = re.compile(rf"^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\S*/)?{re.escape(program)} ([a-z][a-z-]*)")
    for line in [*lines, *code_spans(page)]:
        found = call.match(line.strip())
        if found:
            yield found.group(1)


def anchors(page: Path) -> set[str]:
    """The names under which the headings of ``page`` can be linked to."""
    heads = _HEADING.findall(_FENCED.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
