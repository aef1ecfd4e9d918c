"""What this machine says of itself, by psutil and /proc; the host agent tells it to the control plane."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from ha_tasks.model.system_health import HostReading

FILE_NR = Path("/proc/sys/fs/file-nr")
_NEVER_FILL = frozenset({"squashfs", "iso9660", "erofs"})
"""File systems that are full by nature."""


def this_machine() -> HostReading:
    """Reads only, within some milliseconds; no file system over the network is asked, as it could hang."""
    descriptors, holder = max(_descriptors(), key=lambda found: found[0], default=(0.0, ""))
    memory = psutil.virtual_memory()
    return HostReading(
        load=os.getloadavg()[0] / (os.cpu_count() or 1),
        memory=1.0 - memory.available / memory.total,
        descriptors=descriptors,
        descriptors_of=holder,
        disks=_disks(),
    )


def _descriptors() -> Iterator[tuple[float, str]]:
    """(share in use, whose) of the machine, and of each process that we may look at."""
    with suppress(OSError):
        allocated, _, most = (int(word) for word in FILE_NR.read_text().split())
        yield allocated / most, "the machine"
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # it has ended, or is somebody else's
            limit = process.rlimit(psutil.RLIMIT_NOFILE)[0]
            yield process.num_fds() / limit, f"{process.name()} (pid {process.pid})"


def _disks() -> Mapping[str, float]:
    places = {"/"} | {
        partition.mountpoint
        for partition in psutil.disk_partitions(all=False)
        if partition.fstype not in _NEVER_FILL and "ro" not in partition.opts.split(",")
    }
    shares: dict[str, float] = {}
    for place in sorted(places):
        with suppress(OSError):  # a mount point inside another's private directory
            shares[place] = _share(place)
    return shares


def _share(place: str) -> float:
    """The worse of bytes and inodes, as seen by who is no superuser."""
    told = os.statvfs(place)
    used = told.f_blocks - told.f_bfree
    whole = used + told.f_bavail
    shares = [used / whole if whole else 0.0]
    if told.f_files:
        shares.append(1.0 - told.f_favail / told.f_files)
    return max(shares)


class LocalHost:
    """Implements ports.checks.HostResources for the machine on which this process runs."""

    def resources(self, host: str, *, timeout_s: float = 1.0) -> HostReading:  # noqa: ARG002 - the port's
        """See the port; ``host`` is this one."""
        return this_machine()
