"""The ledger: the highest (epoch, fence) this agent has obeyed, on its own disk, outside PGDATA."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ha_tasks.errors import StaleAuthority
from ha_tasks.ports.host import Authority
from workers.agent.disk import read_json, write_json
from workers.agent.warrant import Warrant


class Ledger:
    """Admits commands in order of their authority.

    A higher pair is on the disk (file and directory synced) before the command's first effect, so a
    command of an earlier controller is refused also after a restart of the agent or of the host.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._open: set[Warrant] = set()
        kept = read_json(path) or {"epoch": 0, "fence": 0}
        self._highest = Authority(epoch=int(kept["epoch"]), fence=int(kept["fence"]))

    @property
    def highest(self) -> Authority:
        """The highest authority seen."""
        return self._highest

    def open(self, by: Authority, *, timeout_s: float, alone: bool = False) -> Warrant:
        """Admits a command; StaleAuthority for a lower one. ``close`` it in the end.

        Commands of lower epochs that still run are called off; with ``alone`` all other commands are.
        """
        warrant = Warrant(by, timeout_s=timeout_s)
        with self._lock:
            self._refuse_lower(by)
            for other in self._open:
                if alone or other.by.epoch < by.epoch:
                    other.call_off(f"a command of epoch {by.epoch}, fence {by.fence} came")
            self._raise_to(by)
            self._open.add(warrant)
        return warrant

    def close(self, warrant: Warrant) -> None:
        """The command has ended. Idempotent."""
        with self._lock:
            self._open.discard(warrant)

    @contextmanager
    def warrant(self, by: Authority, *, timeout_s: float, alone: bool = False) -> Iterator[Warrant]:
        """``open`` and ``close`` around a command."""
        warrant = self.open(by, timeout_s=timeout_s, alone=alone)
        try:
            yield warrant
        finally:
            self.close(warrant)

    def renew(self, warrant: Warrant, by: Authority) -> None:
        """Lets a running command go on in the name of ``by``; StaleAuthority for a lower one."""
        with self._lock:
            self._refuse_lower(by)
            warrant.by = by
            self._raise_to(by)

    @contextmanager
    def acting(self, warrant: Warrant) -> Iterator[None]:
        """Around the one act that must not come late (a start, a promotion).

        Nothing is admitted meanwhile: either the act comes before a higher command, which then finds
        its result, or not at all. Keep it short.
        """
        with self._lock:
            warrant.check()
            yield

    def _refuse_lower(self, by: Authority) -> None:
        highest = self._highest
        if (by.epoch, by.fence) < (highest.epoch, highest.fence):
            raise StaleAuthority(
                f"epoch {by.epoch}, fence {by.fence} is lower than "
                f"epoch {highest.epoch}, fence {highest.fence}, which was seen here"
            )

    def _raise_to(self, by: Authority) -> None:
        if by != self._highest:
            write_json(self._path, {"epoch": by.epoch, "fence": by.fence})
            self._highest = by
