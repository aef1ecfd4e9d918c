"""Room on the disks of a node for a copy of its upstream: what goes where, and whether it fits.

Asked before anything is copied: a disk that fills up in the middle stops whatever else writes there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_MB = 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """``size`` bytes that are to be written below ``path``, which need not be there yet."""

    path: Path
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """A file system on which the shares do not fit, all together; sizes in bytes."""

    path: Path
    needed: int
    free: int

    @property
    def missing(self) -> int:
        """So much more room is needed."""
        return self.needed - self.free

    def __str__(self) -> str:
        """``needs 5,120 MB in /data, where 1,024 MB are free: 4,294,967,296 bytes are missing``."""
        needed, free = (f"{size / _MB:,.0f} MB" for size in (self.needed, self.free))
        return f"needs {needed} in {self.path}, where {free} are free: {self.missing:,} bytes are missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSystem:
    """``number`` tells it from others; ``free``: bytes for who is no superuser."""

    number: int
    free: int


def file_system_of(path: Path) -> FileSystem:
    """That which would hold ``path``."""
    there = next(place for place in (path, *path.parents) if place.exists())
    told = os.statvfs(there)
    return FileSystem(number=there.stat().st_dev, free=told.f_bavail * told.f_frsize)


def shortages(
    shares: Sequence[Share], *, on: Callable[[Path], FileSystem] = file_system_of
) -> list[Shortage]:
    """Each file system that has too little room, named by the first share that goes there."""
    found: dict[int, Shortage] = {}
    for share in shares:
        place = on(share.path)
        before = found.get(place.number)
        found[place.number] = Shortage(
            path=before.path if before else share.path,
            needed=share.size + (before.needed if before else 0),
            free=place.free,
        )
    return [shortage for shortage in found.values() if shortage.missing > 0]
