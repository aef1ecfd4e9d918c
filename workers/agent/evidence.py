"""Diverged WAL, kept aside before a rewind removes it: what the old primary had that nobody else has."""

from __future__ import annotations

import shutil
import struct
from datetime import UTC, datetime
from pathlib import Path

from workers.agent.disk import write_json
from workers.agent.timelines import Fork, segment_of

_MOST_BYTES = 1 << 30
_MOST_DIRECTORIES = 5
_PAGE_HEADER = struct.Struct("=HHIQ")


def stamp() -> str:
    """A moment as part of a file name."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def keep_diverged_wal(wal: Path, kept: Path, *, fork: Fork, segment_bytes: int) -> Path:
    """Copies what was written from the fork on to a new directory in ``kept``; answers that directory.

    Copies, never links: PostgreSQL writes used segments again in place. At most 1 GiB, oldest first, and
    ``divergence.json`` beside them says how many there were. Keeps the five newest such directories.
    """
    target = kept / f"wal-{stamp()}"
    target.mkdir(parents=True)
    segments = _from_fork(wal, fork, segment_bytes)
    copied = segments[: _MOST_BYTES // segment_bytes]
    for path in [*copied, *wal.glob("*.history")]:
        shutil.copy2(path, target / path.name)
    write_json(
        target / "divergence.json",
        {
            "fork_timeline": fork.timeline,
            "fork_lsn": fork.lsn,
            "segments": len(segments),
            "copied": len(copied),
        },
    )
    _prune(kept)
    return target


def _from_fork(wal: Path, fork: Fork, segment_bytes: int) -> list[Path]:
    """Oldest first. Segments that PostgreSQL only holds ready for later use are left out."""
    first = (fork.lsn or 0) // segment_bytes
    found = []
    for path in wal.iterdir():
        place = segment_of(path.name, segment_bytes)
        if place and place[0] >= fork.timeline and place[1] >= first:
            found.append((place[1], place[0], path))
    return [path for segment, _, path in sorted(found) if _is_written(path, segment * segment_bytes)]


def _is_written(path: Path, begin: int) -> bool:
    """True when the first page says that it belongs there; a recycled segment names its old place."""
    with path.open("rb") as file:
        header = file.read(_PAGE_HEADER.size)
    return len(header) == _PAGE_HEADER.size and _PAGE_HEADER.unpack(header)[3] == begin


def _prune(kept: Path) -> None:
    for old in sorted(kept.glob("wal-*"))[:-_MOST_DIRECTORIES]:
        shutil.rmtree(old)
