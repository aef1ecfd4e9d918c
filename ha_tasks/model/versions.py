"""Versions of what a service is served from: configuration files and releases, by digests of their contents.

A version says of each file of the service which content it has. What is GOOD served users well when it was
in place; a change that does not serve is taken back to the good version that was proved last.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from ha_tasks.errors import UsageError

Present: TypeAlias = Mapping[str, str | None]
"""File -> digest of what it holds now; None: it is not there. A file whose agent is silent is left out."""
_WORD = re.compile(r"v?([1-9][0-9]{0,8})")
SHORT = 12
"""Digits of a digest that are shown."""


class Judgement(StrEnum):
    """What is known of a version: nothing yet, that users were served by it, or that they were not."""

    RECORDED = "recorded"
    GOOD = "good"
    BAD = "bad"


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """``no`` counts from 1 in each service; ``files``: file -> SHA-256 of its content. Times: aware UTC."""

    service: str
    no: int
    files: Mapping[str, str]
    actor: str
    reason: str
    recorded_at: datetime
    judgement: Judgement = Judgement.RECORDED
    judged_at: datetime | None = None
    why: str = ""
    """Of its judgement."""

    @property
    def word(self) -> str:
        """``v7``: how it is named in plans and on the command line."""
        return f"v{self.no}"


def number_of(word: str) -> int:
    """``7`` or ``v7``. UsageError when it is none."""
    found = _WORD.fullmatch(word.strip().lower())
    if found is None:
        raise UsageError(f'"{word}" is no version; write its number, like 7: ha-tasks versions SERVICE')
    return int(found[1])


def changed(version: Version, present: Present, only: Iterable[str] | None = None) -> tuple[str, ...]:
    """Files (of ``only``; None: all) that hold something else than the version says, as far as known."""
    asked = version.files if only is None else set(only)
    return tuple(
        name
        for name, digest in sorted(version.files.items())
        if name in asked and name in present and present[name] != digest
    )


def in_place(versions: Iterable[Version], present: Present) -> Version | None:
    """The newest version of which every file is there as it says; None: it is none that was recorded."""
    whole = (v for v in versions if all(present.get(name) == digest for name, digest in v.files.items()))
    return max(whole, key=lambda version: version.no, default=None)


def last_good(versions: Iterable[Version]) -> Version | None:
    """What the service should be served from when nobody says otherwise: of the good ones the one that was
    proved last, which after a rollback is an older one. None: nothing is known to be good.
    """
    good = (v for v in versions if v.judgement is Judgement.GOOD)
    return max(good, key=lambda version: (version.judged_at or version.recorded_at, version.no), default=None)


def way_back(versions: Sequence[Version], present: Present) -> Version | None:
    """Where a rollback leads to when nobody names a version; None when there is no such place.

    From what was never recorded, or is not known to be good, to the last good one; from that one to the
    newest good one before it, so that going back twice does not lead forward again.
    """
    here, last = in_place(versions, present), last_good(versions)
    if here is None or here.judgement is not Judgement.GOOD:
        return last if last is not None and changed(last, present) else None
    older = [v for v in versions if v.no < here.no and v.judgement is Judgement.GOOD and changed(v, present)]
    return max(older, key=lambda version: version.no, default=None)
